"""A database as MLflow's store, without a server: its driver, and whether it lets us in."""

from importlib.util import find_spec
from urllib.parse import urlsplit

PROBE_SECONDS = 5.0
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
PATIENT = {"psycopg2", "psycopg", "pymysql", "mysqldb"}
"""Drivers that know `connect_timeout`."""


def driven(uri: str) -> str:
    """`uri` with the driver that is here, where it names PostgreSQL and none.

    SQLAlchemy 2.1 would take psycopg, 2.0 psycopg2, whichever of them is here.
    """
    scheme, _, rest = uri.partition("://")
    drivers = [name for name in ("psycopg2", "psycopg") if find_spec(name)]
    return f"postgresql+{drivers[0]}://{rest}" if drivers and scheme == "postgresql" else uri


def knock(uri: str) -> None:
    """Connect to a database once; MLflow itself tries ten times, which takes 100 seconds.

    Raises what the driver says: a wrong password, a database that is not there.
    """
    engine, _, driver = urlsplit(driven(uri)).scheme.partition("+")
    if engine not in PORTS:
        return
    import sqlalchemy  # noqa: PLC0415 - MLflow's, so it is there, and takes as long

    patience = {"connect_timeout": int(PROBE_SECONDS)} if driver in PATIENT else {}
    found = sqlalchemy.create_engine(
        driven(uri), connect_args=patience, poolclass=sqlalchemy.pool.NullPool
    )
    found.connect().close()
