"""Reads the parts of exports for the tests, in the environment that has pyarrow.

For each line on stdin, paths separated by tabs, it writes the rows as one line of JSON: numbers of vectors as the
hexadecimal of their bytes, moments as text.
"""

import json
import sys

import pyarrow.parquet as pq


def rows(path: str) -> list[dict[str, object]]:
    table = pq.read_table(path)
    found = [dict(zip(table.column_names, row, strict=True)) for row in zip(*map(values, table.columns), strict=True)]
    for row in found:
        row["types"] = {name: str(table.schema.field(name).type) for name in table.column_names}
    return found


def values(column: object) -> list[object]:
    kind = str(column.type)  # type: ignore[attr-defined]
    items = column.to_pylist()  # type: ignore[attr-defined]
    if kind.startswith("fixed_size_list"):
        width = column.type.list_size  # type: ignore[attr-defined]
        numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)  # type: ignore[attr-defined]
        return [vector.tobytes().hex() for vector in numbers.reshape(-1, width)]
    if kind.startswith("map"):
        return [dict(item) for item in items]
    return [item.isoformat() if kind.startswith("timestamp") else item for item in items]


for line in sys.stdin:
    sys.stdout.write(json.dumps([row for path in line.strip().split("\t") if path for row in rows(path)]) + "\n")
    sys.stdout.flush()
