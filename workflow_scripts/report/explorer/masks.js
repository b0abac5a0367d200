"use strict";

// Decodes an image's planes, thresholds them exactly as the sweep does, and counts.

async function bitmapOf(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

async function planesOf(entry) {
  const image = await bitmapOf(entry.planes);
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const size = entry.width * entry.height;
  const planes = [];
  for (let start = 0; start < canvas.width * canvas.height; start += size) {
    const plane = new Uint8Array(size);
    for (let i = 0; i < size; i++) plane[i] = pixels[4 * (start + i)];
    planes.push(plane);
  }
  return planes;
}

/* A pixel takes its winner's class where it exceeds more thresholds than lie before this one. */
function maskAt(passed, winner, position) {
  const mask = new Uint8Array(passed.length);
  for (let i = 0; i < mask.length; i++) if (passed[i] > position) mask[i] = winner[i];
  return mask;
}

function countsOf(mask) {
  const counts = new Map();
  for (const label of mask) counts.set(label, (counts.get(label) || 0) + 1);
  return counts;
}

/* Mean IoU in percent over the classes in truth or mask; truth 255 does not count. */
function imageIou(truth, mask) {
  const hits = new Float64Array(256), inTruth = new Float64Array(256), inMask = new Float64Array(256);
  for (let i = 0; i < mask.length; i++) {
    if (truth[i] === 255) continue;
    inTruth[truth[i]]++;
    inMask[mask[i]]++;
    if (truth[i] === mask[i]) hits[truth[i]]++;
  }
  let total = 0, classes = 0;
  for (let label = 0; label < 255; label++) {
    const union = inTruth[label] + inMask[label] - hits[label];
    if (union > 0) { total += hits[label] / union; classes++; }
  }
  return classes ? 100 * total / classes : null;
}

/* The borders between regions as one path, in units of pixels. */
function bordersOf(mask, width, height) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = mask[y * width + x];
      if (x + 1 < width && here !== mask[y * width + x + 1]) { path.moveTo(x + 1, y); path.lineTo(x + 1, y + 1); }
      if (y + 1 < height && here !== mask[(y + 1) * width + x]) { path.moveTo(x, y + 1); path.lineTo(x + 1, y + 1); }
    }
  }
  return path;
}
