"""Makes up taxi trips, a file for each day.

    python make_data.py [--out data] [--rows 3000000] [--files 60] [--format parquet] [--seed 20]

A trip has the time at which it began, two zones of a city of 16, a distance, the rain of its hour, and how long it
took. That is made of minutes for each zone, a pace for each hour (rush hours are slow, nights are fast, weekends
differ), rain that slows all down, and chance. A row in a hundred is wrong, as from broken meters. The same seed gives
the same files; each depends on nothing else but its day and its number of rows. One file at a time is in memory.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

ZONES = 16
FIRST_DAY = np.datetime64("2026-01-01", "s")
SECONDS_PER_DAY = 24 * 3600
# How many trips begin in each hour, and minutes per kilometre, of workdays and weekends.
TRIPS = np.array([
    [3, 2, 1, 1, 1, 2, 5, 9, 10, 7, 6, 6, 7, 7, 7, 8, 9, 11, 11, 9, 7, 6, 5, 4],
    [8, 7, 5, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 9, 9, 8, 8, 9, 9],
])
PACE = np.array([
    [16, 15, 15, 15, 15, 17, 22, 31, 34, 28, 24, 24, 25, 25, 26, 28, 32, 36, 34, 28, 23, 21, 19, 17],
    [18, 18, 17, 16, 15, 15, 16, 17, 18, 20, 22, 23, 24, 24, 24, 23, 23, 23, 23, 22, 21, 20, 20, 19],
]) / 10
WRONG_SHARE = 0.01


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="where the files go")
    parser.add_argument("--rows", type=int, default=3_000_000, help="of all files")
    parser.add_argument("--files", type=int, default=60, help="days")
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()

    write = {"parquet": pyarrow.parquet.write_table, "csv": pyarrow.csv.write_csv}[arguments.format]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for day in range(arguments.files):
        rows = arguments.rows * (day + 1) // arguments.files - arguments.rows * day // arguments.files
        date = (FIRST_DAY + day * SECONDS_PER_DAY).astype("datetime64[D]")
        table = trips(np.random.default_rng([arguments.seed, day]), day, rows)
        write(pyarrow.table(table), arguments.out / f"{date}.{arguments.format}")


def trips(chance, day, rows):
    """The columns of one day."""
    midnight = FIRST_DAY + day * SECONDS_PER_DAY
    # The first day of 1970 was a Thursday.
    weekend = int((midnight.astype(np.int64) // SECONDS_PER_DAY + 3) % 7 >= 5)
    hour = np.sort(chance.choice(24, rows, p=TRIPS[weekend] / TRIPS[weekend].sum()))
    rain = np.maximum(0, chance.normal(-1.5, 2.5, 24)).round(1)[hour]
    from_zone, to_zone = chance.integers(0, ZONES, (2, rows))
    # Zones lie on a line, so that those with far numbers are far from each other.
    distance = (0.8 + 0.9 * np.abs(from_zone - to_zone) + chance.gamma(2.0, 0.9, rows)).round(2)
    # Airports and narrow streets: the same in every file.
    zone_minutes = np.random.default_rng(ZONES).gamma(2.0, 1.2, (2, ZONES))
    minutes = zone_minutes[0, from_zone] + zone_minutes[1, to_zone] + PACE[weekend][hour] * distance
    minutes = (minutes + 0.3 * rain + 0.08 * rain * distance) * chance.lognormal(-0.01, 0.14, rows)
    duration = (60 * minutes).round()

    wrong = chance.random(rows) < WRONG_SHARE
    kind = chance.integers(0, 4, rows)
    duration[wrong & (kind == 0)] *= -1
    duration[wrong & (kind == 1)] *= 100
    distance[wrong & (kind == 2)] = 0
    missing = wrong & (kind == 3)
    return {
        "pickup_at": midnight + hour * 3600 + chance.integers(0, 3600, rows),
        "from_zone": from_zone,
        "to_zone": to_zone,
        "distance_km": pyarrow.array(distance, mask=missing),
        "rain_mm": rain,
        "duration_s": duration.astype(np.int64),
    }


if __name__ == "__main__":
    main()
