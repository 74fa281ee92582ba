"""The services that other tests stand on: what they skip for, and a line that breaks."""

import urllib.request
from pathlib import Path

import pytest

from tests import services
from tests.services import PASSWORD, line_to, postgres, s3_server, without_secrets


def test_no_postgres_is_a_skip_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(services, "_unprivileged", dict)
    monkeypatch.setattr(services, "_programs", lambda: tmp_path)
    (tmp_path / "initdb").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (tmp_path / "initdb").chmod(0o755)
    with pytest.raises(pytest.skip.Exception, match="initdb says no room"), postgres():
        pass
    monkeypatch.setattr(services, "_programs", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="no PostgreSQL here: no initdb on"), postgres():
        pass


def test_a_postgres_takes_nobody_without_the_password_and_leaves_nothing() -> None:
    import psycopg2

    with postgres() as database:
        folder = database.log.parent
        uri = database.create("one")
        assert database.execute("SELECT 6 * 7", "one") == [(42,)]
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(uri.replace("kZ", "kz"))
        database.execute("CREATE TABLE rows (a int)", "one")
        database.execute("INSERT INTO rows VALUES (1), (2)", "one")
        database.end()
        database.again()
        assert database.text("one") == "(1,)\n(2,)"
    assert database.process.poll() is not None
    assert not folder.exists()


def test_a_line_is_cut_and_mended(tmp_path: Path) -> None:
    with s3_server(tmp_path) as s3, line_to(s3.port) as line:
        page = f"{line.endpoint}/moto-api/"
        for _ in range(2):
            with urllib.request.urlopen(page) as answer:
                assert answer.status == 200
            sent = line.sent
            assert sent > 0
            line.cut()
            with pytest.raises(OSError, match=r"closed|reset|refused"):
                urllib.request.urlopen(page)
            assert line.sent == sent
            line.mend()
    assert s3.process.poll() is not None


def test_secrets_are_seen() -> None:
    assert without_secrets("all well") == []
    assert without_secrets(f"a {PASSWORD}", "b") == [PASSWORD, "w0rd"]
