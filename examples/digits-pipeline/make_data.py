"""Writes scikit-learn's digits as CSV files, as if they had come in day by day.

    python make_data.py [--out data] [--files 12]

The 1797 images of 8x8 pixels (0 to 16) are inside the scikit-learn wheel: nothing is downloaded. They are shuffled with
a fixed seed, so the files are the same each time. A row in a hundred is spoilt on purpose, by a cell that is empty or
too bright, as real data is: `preprocess` finds those.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SEED = 20
SPOILT_EVERY = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="where the files go")
    parser.add_argument("--files", type=int, default=12, help="how many")
    arguments = parser.parse_args()

    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.array_split(order, arguments.files), start=1):
        with (arguments.out / f"day-{number:02}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*(f"pixel{pixel}" for pixel in range(images.shape[1])), "digit"])
            writer.writerows(cells(row, images[row], digits[row]) for row in rows)


def cells(row, image, digit):
    image = [int(pixel) for pixel in image]
    if row % SPOILT_EVERY == 0:
        image[row % len(image)] = "" if row % (2 * SPOILT_EVERY) else 255
    return [*image, int(digit)]


if __name__ == "__main__":
    main()
