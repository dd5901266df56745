"""The embedded log: topics, groups and progress in one SQLite file, for one machine and without any set-up.

`log` is the front; behind it `consumer` (a member of a group), `group` and `assignor` (who owns what), `records` and
`catalogue` (what is stored), `upkeep` (what is deleted), `news` (who is told), `database` and `gate` (the file itself).
"""

from penstock.log.sqlite.log import SqliteLog
from penstock.log.sqlite.options import SqliteOptions

__all__ = ["SqliteLog", "SqliteOptions"]
