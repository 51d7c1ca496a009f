"""The options of `kobler provision --est`, before anything is asked or a cable is touched."""

from __future__ import annotations

import pytest
from board_at_port import SITE, invoke
from est_place import Place
from kobler.errors import UsageError
from kobler.pki import secret


def test_options_that_do_not_go_together_are_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    config, roots = ("--config", str(place.site)), ("--est-roots", str(place.roots))
    plain = place.folder / "plain.toml"
    plain.write_text(SITE)
    for words, arguments in (
        ("--est-roots goes with --est", (*config, *roots)),
        ("--no-est-secret goes with --est", ("--no-est-secret",)),
        ("--est here does not go with --csr-out", (*roots, "--est", "here", "--csr-out", "x")),
        ("--est unit does not go with --scan, which wants a certificate now", (*roots, "--est", "unit", "--scan")),
        ("--est needs --est-roots", (*config, "--est", "here")),
        ("--est-identity goes with --est here", (*roots, *config, "--est", "unit", "--est-identity", str(plain))),
        ("--no-est-secret goes with --est unit", (*roots, *config, "--est", "here", "--no-est-secret")),
        ("--est needs --config with the server's address", (*roots, "--est", "here")),
        ("--est needs --config with the server's address", (*roots, "--config", str(plain), "--est", "unit")),
        ("is no identity for TLS", (*roots, *config, "--est", "here", "--est-identity", str(plain))),
    ):
        done = invoke("--port", "/dev/null", *arguments)
        assert isinstance(done.exception, UsageError) and words in str(done.exception), (words, done.exception)
    for given in ("nobody", "us\u00e9r:pass"):
        monkeypatch.setenv(secret.EST, given)
        done = invoke("--port", "/dev/null", *config, *roots, "--est", "here")
        assert "is not user:password" in str(done.exception) and given not in str(done.exception)
    monkeypatch.delenv(secret.EST)
    done = invoke("--port", "/dev/null", *config, *roots, "--est", "here")
    assert "set KOBLER_EST_SECRET, or run this at a terminal" in str(done.exception)
