"""How large the tables and their indexes are, and how much of them is dead: for `doctor`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import connection

from workflows.engine.retention.catalogue import CATALOGUE

DEAD_SHARE = 0.4
DEAD_ROWS = 100_000
"""So many dead rows, and such a share of the table, are more than autovacuum should leave."""
BLOAT_FACTOR = 2.0
BLOAT_BYTES = 256 * 1024 * 1024
"""An estimate is told where it is both: so many times what the rows need, and so much of it."""


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """A table: its rows (live and dead, as Postgres estimates them), its bytes, and those that its rows would need."""

    table: str
    live_rows: int
    dead_rows: int
    table_bytes: int
    index_bytes: int
    total_bytes: int
    needed_bytes: int | None
    """An estimate from the average width of the columns; None where the table was never analyzed."""
    vacuumed_at: dt.datetime | None

    @property
    def warning(self) -> str:
        """What is wrong with it, and what to do; empty where nothing is."""
        rows = self.live_rows + self.dead_rows
        if self.dead_rows > DEAD_ROWS and self.dead_rows > DEAD_SHARE * rows:
            when = f"{self.vacuumed_at:%Y-%m-%d %H:%M} UTC" if self.vacuumed_at else "never"
            return (
                f"{self.table}: {self.dead_rows:,} of {rows:,} rows are dead, last vacuumed {when}. Look for a long "
                f"transaction (pg_stat_activity), then VACUUM {self.table}."
            )
        bloat = self.table_bytes - (self.needed_bytes or self.table_bytes)
        if bloat > BLOAT_BYTES and self.table_bytes > BLOAT_FACTOR * (self.needed_bytes or self.table_bytes):
            return (
                f"{self.table}: about {bloat / 2**20:,.0f} MiB of {self.table_bytes / 2**20:,.0f} are empty. New rows "
                "fill them; to give them back, run pg_repack (VACUUM FULL stops everything)."
            )
        return ""


_SIZES = """
SELECT c.relname, s.n_live_tup, s.n_dead_tup, pg_table_size(c.oid), pg_indexes_size(c.oid),
       pg_total_relation_size(c.oid), w.width, c.reltuples,
       COALESCE((SELECT o.option_value::int FROM pg_options_to_table(c.reloptions) o
                  WHERE o.option_name = 'fillfactor'), 100),
       greatest(s.last_vacuum, s.last_autovacuum)
  FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
  LEFT JOIN LATERAL (SELECT sum(t.avg_width * (1 - t.null_frac)) AS width FROM pg_stats t
                      WHERE t.schemaname = s.schemaname AND t.tablename = c.relname) w ON true
 WHERE c.relname = ANY (%s) AND s.schemaname = current_schema()
 ORDER BY pg_total_relation_size(c.oid) DESC
"""
_ROW_HEADER_BYTES = 28
"""Of a row: its header and its pointer in the page."""


def table_sizes() -> list[TableSize]:
    """The tables of the catalogue, the largest first."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, [list(CATALOGUE)])
        rows = cursor.fetchall()
    return [
        TableSize(
            table=name, live_rows=live, dead_rows=dead, table_bytes=table, index_bytes=indexes, total_bytes=total,
            needed_bytes=_needed(width, tuples, fill), vacuumed_at=vacuumed,
        )
        for name, live, dead, table, indexes, total, width, tuples, fill, vacuumed in rows
    ]  # fmt: skip


def _needed(width: float | None, tuples: float, fill: int) -> int | None:
    if not width or tuples < 0:
        return None
    return int((float(width) + _ROW_HEADER_BYTES) * tuples * 100 / fill)
