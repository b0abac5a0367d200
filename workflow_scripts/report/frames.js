// Browsers cap the length of a data address in a frame (Chromium at 2 MB): pages get addresses of their own.
for (const result of Object.values(results)) {
  const [head, content] = result.data_uri.split(",", 2);
  if (!head.startsWith("data:text/html") || !head.endsWith(";base64")) continue;
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  result.data_uri = URL.createObjectURL(new Blob([bytes], { type: "text/html;charset=utf-8" }));
}
