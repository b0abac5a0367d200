"""Rebuild the pictures of this folder from the Debian packages they come from.

`manifest.csv` says for every file which photograph it is taken from, which part of it, and how far
the border of a cut-out is drawn in. Packages are unpacked side by side into one folder
(`dpkg -x PACKAGE.deb ROOT/PACKAGE`); then

    python resources/demo/build.py ROOT

writes the files anew, cut-outs as WebP with alpha, backgrounds as JPEG. Needs numpy, pillow and scipy.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

FOLDER = Path(__file__).resolve().parent
CUTOUT_SIDE = 200
BACKGROUND_SIDE = 640
OPAQUE = 250


def clean_border(rgba: np.ndarray, inset: int) -> np.ndarray:
    """Draw the border of a cut-out in, and give what is left of it the colour of the inside.

    Photographs that were cut out by hand carry a fringe of their old background. Parts thinner
    than the inset (legs, stems) stay as they are.

    Args:
        rgba: uint8[H, W, 4].
        inset: Pixels by which the border moves inwards; 0 leaves the cut-out alone.
    """
    if inset == 0:
        return rgba
    alpha = rgba[..., 3]
    padded = np.pad(alpha, inset)
    window = (2 * inset + 1, 2 * inset + 1)
    eroded = ndimage.grey_erosion(padded, window)
    opened = ndimage.grey_dilation(eroded, window)
    thin = padded.astype(int) - opened > 128
    thin = ndimage.binary_opening(thin, np.ones((2, 2))) & ndimage.binary_dilation(
        thin, iterations=1
    )
    kept = np.where(thin, padded, eroded)[inset:-inset, inset:-inset]
    inside = ndimage.binary_erosion(kept >= OPAQUE)
    if not inside.any():
        return rgba
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    recoloured = rgba[..., :3][tuple(nearest)]
    fringe = ~inside & ~thin[inset:-inset, inset:-inset]
    colour = np.where(fringe[..., None], recoloured, rgba[..., :3])
    return np.dstack([colour, kept]).astype(np.uint8)


def build_cutout(source: Path, target: Path, inset: int) -> None:
    """Write one cut-out: border cleaned, cropped to its alpha, at most CUTOUT_SIDE pixels long."""
    rgba = clean_border(np.array(Image.open(source).convert("RGBA")), inset)
    rows, columns = np.nonzero(rgba[..., 3] >= 64)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    image = Image.fromarray(rgba).crop(tuple(int(edge) for edge in box))
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    image.save(target, quality=92, method=6)


def build_background(source: Path, target: Path, crop: list[float]) -> None:
    """Write one background: the part `crop` (x, y, width, height as shares) of a photograph."""
    image = Image.open(source).convert("RGB")
    x, y, width, height = crop
    box = (
        x * image.width,
        y * image.height,
        (x + width) * image.width,
        (y + height) * image.height,
    )
    image = image.crop(tuple(round(edge) for edge in box))
    image.thumbnail((BACKGROUND_SIDE, BACKGROUND_SIDE), Image.Resampling.LANCZOS)
    image.save(target, quality=86, optimize=True)


def main() -> None:
    """Build every file that the manifest lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder with one unpacked package a subfolder")
    root = parser.parse_args().root
    with (FOLDER / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            source, target = root / row["package"] / row["origin"], FOLDER / row["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            if row["class"] == "background":
                build_background(source, target, [float(part) for part in row["crop"].split()])
            else:
                build_cutout(source, target, int(row["inset"]))


if __name__ == "__main__":
    main()
