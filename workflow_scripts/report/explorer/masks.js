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

/* The same at every one of `positions` positions of the slider, by one pass over the pixels. */
function iouCurve(truth, winner, passed, positions) {
  const byClass = () => new Float64Array(256 * (positions + 1));
  const masked = byClass(), hits = byClass(), inTruth = new Float64Array(256), ground = new Float64Array(positions + 1);
  let pixels = 0;
  for (let i = 0; i < truth.length; i++) {
    if (truth[i] === 255) continue;
    pixels++;
    inTruth[truth[i]]++;
    masked[256 * passed[i] + winner[i]]++;
    if (truth[i] === winner[i]) hits[256 * passed[i] + winner[i]]++;
    if (truth[i] === 0) ground[passed[i]]++;
  }
  if (!pixels) return null;
  const curve = new Array(positions), objects = new Float64Array(256), right = new Float64Array(256);
  let covered = 0, groundCovered = 0;
  for (let position = positions - 1; position >= 0; position--) {
    for (let label = 1; label < 255; label++) {
      objects[label] += masked[256 * (position + 1) + label];
      right[label] += hits[256 * (position + 1) + label];
      covered += masked[256 * (position + 1) + label];
    }
    groundCovered += ground[position + 1];
    right[0] = inTruth[0] - groundCovered;
    objects[0] = pixels - covered;
    let total = 0, classes = 0;
    for (let label = 0; label < 255; label++) {
      const union = inTruth[label] + objects[label] - right[label];
      if (union > 0) { total += right[label] / union; classes++; }
    }
    curve[position] = 100 * total / classes;
  }
  return curve;
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
