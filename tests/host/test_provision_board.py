"""Provisioning from end to end: mpremote's transport, the virtual board, the real MicroPython, the flash."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import certifi
import pytest
import shown
from board_at_port import IDENTITY, SITE, Unit, invoke, private_key, unit
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from kobler.build import Build
from kobler.config import compile_config, load
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority
from kobler.pki.requests import Answer
from kobler.provision import Provisioned, provision
from kobler.provision.cli import provision as command
from other_authority import OtherAuthority, pem
from typer import Typer
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("state") / "pki")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "site.toml"
    path.write_text(SITE)
    return path


@pytest.fixture(scope="module")
def config(site: Path) -> bytes:
    return compile_config(load(site))


def check_identity(files: dict[str, bytes], authority: Authority, it: Unit) -> x509.Certificate:
    certificate, *between = shown.certificates(files["cert.der"])
    certificate.verify_directly_issued_by(authority.signer)
    assert between == authority.chain
    assert certificate.public_key() == private_key(files["key.der"]).public_key()
    assert certificate.subject.rfc4514_string() == f"CN={it.board.mac.hex()}"
    assert files["ca.der"] == authority.ca_der
    return certificate


def test_a_fresh_unit_gets_an_identity_and_its_key_never_crosses_the_wire(
    shared: Unit, authority: Authority, config: bytes
) -> None:
    start = len(shared.wire)
    found = provision(shared.board.usb_url, authority, config)
    files = shared.files()
    assert sorted(files) == sorted(IDENTITY)
    check_identity(files, authority, shared)
    assert files["config.json"] == config
    assert found == Provisioned(
        shared.board.mac.hex(), found.fingerprint, found.not_after, json.loads(config)["rev"], found.seconds
    )
    secret = private_key(files["key.der"]).private_numbers().private_value.to_bytes(32, "big")
    wire = bytes(shared.wire[start:])
    assert files["cert.der"][:90] in base64.b64decode(base64.b64encode(files["cert.der"]))
    assert base64.b64encode(files["cert.der"][:90]) in wire  # so it is the wire that is being searched
    for form in (secret, secret.hex().encode(), str(int.from_bytes(secret, "big")).encode()):
        assert form not in wire
    for shift in range(3):
        assert base64.b64encode(bytes(shift) + secret)[4:40] not in wire
    shared.said_since(start, b"kobler: firmware")  # it was reset and runs


def test_provisioning_again_replaces_key_and_certificate_and_keeps_the_configuration(
    shared: Unit, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    before = shared.files()
    found = provision(shared.board.usb_url, authority, None)
    after = shared.files()
    assert sorted(after) == sorted(IDENTITY)
    assert after["key.der"] != before["key.der"]
    assert after["config.json"] == before["config.json"]
    assert found.rev == json.loads(config)["rev"]
    check_identity(after, authority, shared)


@pytest.mark.parametrize(
    ("broken", "words"),
    [(b"{", "configuration is not JSON"), (b'{"v":2}', "version"), (b'{"v":1}', "configuration: name")],
)
def test_a_configuration_that_the_unit_refuses_changes_nothing_and_the_unit_goes_back_to_work(
    shared: Unit, authority: Authority, config: bytes, broken: bytes, words: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    with pytest.raises(KoblerError, match=words) as caught:
        provision(shared.board.usb_url, authority, broken)
    assert "it keeps what it had" in str(caught.value)
    shared.said_since(start, b"kobler: firmware")
    after = shared.files()
    assert {name: after[name] for name in IDENTITY} == before


def at_step(words: str, action: Callable[[], None]) -> Callable[[str], None]:
    def progress(text: str) -> None:
        if words in text:
            action()

    return progress


@pytest.mark.parametrize("step", ["makes its key", "copying", "checks what it got"])
def test_a_cable_pulled_at_any_step_is_an_error_and_the_next_attempt_succeeds(
    shared: Unit, authority: Authority, config: bytes, step: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before = shared.files()
    started = time.monotonic()
    with pytest.raises(KoblerError, match="check the cable"):
        pull = at_step(step, lambda: shared.run(shared.board.usb.unplug()))
        provision(shared.board.usb_url, authority, config, pull)
    assert time.monotonic() - started < 15
    after = shared.files()
    assert {name: after[name] for name in IDENTITY} == before
    shared.run(shared.board.usb.plug())
    provision(shared.board.usb_url, authority, config)
    assert sorted(shared.files()) == sorted(IDENTITY)
    check_identity(shared.files(), authority, shared)


# The switch takes some forty flash operations; each is a place where the power may go.
@pytest.mark.parametrize(
    "cuts", [(0, 4, 12, 18), pytest.param(range(42), marks=[pytest.mark.long, pytest.mark.timeout(400)])]
)
def test_power_lost_while_the_unit_switches_leaves_one_whole_identity(
    shared: Unit, authority: Authority, config: bytes, cuts: Iterable[int]
) -> None:
    provision(shared.board.usb_url, authority, config)
    outcomes = set()
    for operations in cuts:
        before, start = shared.files(), len(shared.wire)
        cut = at_step("checks what it got", lambda n=operations: shared.cut_power_after(n))
        try:
            provision(shared.board.usb_url, authority, config, cut)
        except KoblerError:
            shared.run(shared.board.power_on())
        else:
            assert operations > 20  # the last ones of the table may fall behind the end of the switch
            shared.cut_power_after(1 << 30)
        shared.said_since(start, b"kobler: firmware")
        after = shared.files()
        check_identity(after, authority, shared)
        assert not {"key.new", "cert.new", "ca.new", "config.new", "commit"} & set(after)
        assert after["config.json"] == config
        outcomes.add("old" if after["key.der"] == before["key.der"] else "new")
    assert outcomes == {"old", "new"}


def test_the_identity_comes_back_after_the_file_system_was_made_anew(
    shared: Unit, built: Build, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    fresh = next(file for offset, file in built.regions if offset == shared.vfs.offset)
    shared.replace_files(fresh.read_bytes())
    shared.said_since(start, b"kobler: identity restored")
    shared.said_since(start, b"kobler: firmware")
    after = shared.files()
    assert {**after, "config.json": config} == before
    check_identity(after, authority, shared)
    start = len(shared.wire)
    shared.run(shared.board.power_off())
    shared.run(shared.board.power_on())
    shared.said_since(start, b"kobler: firmware")
    assert b"restored" not in shared.wire[start:], "once is enough"


@pytest.mark.parametrize("name", ["key.der", "cert.der", "ca.der"])
def test_a_file_of_the_identity_that_flipped_comes_back(
    shared: Unit, authority: Authority, config: bytes, name: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    fs = shared.volume()
    data = bytearray(before[name])
    data[len(data) // 2] ^= 0x10
    with fs.open("/etc/" + name, "wb") as file:
        file.write(data)
    shared.replace_files(bytes(fs.context.buffer))
    shared.said_since(start, b"kobler: identity restored")
    shared.said_since(start, b"kobler: firmware")
    assert shared.files() == before
    secret = private_key(before["key.der"]).private_numbers().private_value.to_bytes(32, "big")
    assert secret not in shared.wire[start:] and secret.hex().encode() not in shared.wire[start:]


def test_a_new_identity_replaces_the_old_one_in_both_places(
    shared: Unit, built: Build, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    old = shared.files()
    provision(shared.board.usb_url, authority, config)
    new, start = shared.files(), len(shared.wire)
    assert new["key.der"] != old["key.der"]
    fresh = next(file for offset, file in built.regions if offset == shared.vfs.offset)
    shared.replace_files(fresh.read_bytes())
    shared.said_since(start, b"kobler: firmware")
    assert shared.files()["key.der"] == new["key.der"]


def test_a_port_in_use_by_another_program(shared: Unit, authority: Authority) -> None:
    import serial

    port = serial.serial_for_url(shared.board.usb_url)
    try:
        with pytest.raises(KoblerError, match="is busy"):
            provision(shared.board.usb_url, authority, None)
    finally:
        port.close()


def test_history_that_the_units_flash_cannot_hold_is_refused_before_it_makes_a_key(
    shared: Unit, authority: Authority, config: bytes, tmp_path: Path
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    bus = '[[bus]]\nname = "b"\nkind = "tcp"\nhost = "plc"\n[[bus.unit]]\nid = 1\nname = "u"\n'
    point = '[[bus.unit.point]]\nname = "p%d"\ntable = "holding"\naddress = %d\ntype = "u16"\nhistory = true\n'
    site = tmp_path / "site.toml"
    site.write_text(SITE + bus + "".join(point % (i, i) for i in range(60)))
    app = Typer()
    app.command()(command)
    arguments = ["--port", shared.board.usb_url, "--config", str(site), "--state", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert "history.hours: 60 points with history take 161 KB over 168 hours, the unit has" in str(done.exception)
    assert "makes its key" not in done.stderr
    shared.said_since(start, b"kobler: firmware")
    assert shared.files() == before
    site.write_text(SITE + '[history]\ninstant = "30h"\n' + bus + "".join(point % (i, i) for i in range(30)))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"warning: \S+ history\.instant: if every reading were a sample, the unit would keep", done.stderr)


def test_the_command_prints_one_event(shared: Unit, site: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(command)
    arguments = ["--port", shared.board.usb_url, "--config", str(site), "--state", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    event = json.loads(done.stdout)
    assert event["event"] == "provisioned"
    assert event["id"] == shared.board.mac.hex()
    assert "signing its certificate" in done.stderr


def test_further_roots_are_trusted_besides_the_authoritys_own(shared: Unit, site: Path, tmp_path: Path) -> None:
    # Two of the public web; one of them has an RSA key, which the unit only hands on to TLS.
    found = x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes())
    kinds = [rsa.RSAPublicKey, ec.EllipticCurvePublicKey]
    roots = [next(one for one in found if isinstance(one.public_key(), kind)) for kind in kinds]
    roots_pem = tmp_path / "roots.pem"
    roots_pem.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in roots))
    state = ["--state", str(tmp_path)]
    done = invoke("--port", shared.board.usb_url, "--config", str(site), "--trust", str(roots_pem), *state)
    assert done.exit_code == 0, done.output
    own = Authority.open(tmp_path / "pki").ca_der
    assert shared.files()["ca.der"] == own + b"".join(one.public_bytes(Encoding.DER) for one in roots)
    roots_pem.write_text("nothing")
    refused = invoke("--port", shared.board.usb_url, "--trust", str(roots_pem), *state)
    assert "has no certificate" in str(refused.exception)
    both = invoke("--batch", "list.csv", "--trust", str(roots_pem), *state)
    assert "--trust does not go with --batch" in str(both.exception)


@pytest.mark.parametrize(
    "levels", [pytest.param(0, marks=pytest.mark.long), 1, pytest.param(2, marks=pytest.mark.long)]
)
def test_an_external_authority_is_asked_by_files_and_the_key_waits_through_a_power_cut(
    shared: Unit, authority: Authority, config: bytes, site: Path, tmp_path: Path, levels: int
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start, port = shared.files(), len(shared.wire), ("--port", shared.board.usb_url)
    request = tmp_path / "unit.csr"
    done = invoke(*port, "--csr-out", str(request))
    assert done.exit_code == 0, done.output
    shared.said_since(start, b"kobler: firmware")
    waiting = shared.files()
    assert {name: waiting[name] for name in IDENTITY} == before, "the old identity works on"
    again, first = tmp_path / "again.csr", x509.load_pem_x509_csr(request.read_bytes())
    assert invoke(*port, "--csr-out", str(again)).exit_code == 0
    assert x509.load_pem_x509_csr(again.read_bytes()).public_key() == first.public_key()
    start = len(shared.wire)
    shared.run(shared.board.power_off())
    shared.run(shared.board.power_on())
    shared.said_since(start, b"kobler: firmware")

    other = OtherAuthority(levels)
    certificate = other.sign(request)
    (tmp_path / "unit.pem").write_bytes(pem(certificate))
    (tmp_path / "ca.pem").write_bytes(pem(*other.chain))
    answer = ["--cert-in", str(tmp_path / "unit.pem"), "--ca-in", str(tmp_path / "ca.pem"), "--config", str(site)]
    looked = invoke(*port, *answer, "--dry-run")
    assert looked.exit_code == 0 and "would get this certificate" in looked.stderr
    assert {name: shared.files()[name] for name in IDENTITY} == before
    done = invoke(*port, *answer, "--json")
    assert done.exit_code == 0, done.output
    after = shared.files()
    assert sorted(after) == sorted(IDENTITY), "the key that waited is not left behind"
    assert after["cert.der"] == shown.der(certificate, *reversed(other.chain[1:]))
    assert after["ca.der"] == other.chain[0].public_bytes(serialization.Encoding.DER)
    assert private_key(after["key.der"]).public_key() == certificate.public_key()
    assert json.loads(done.stdout)["fingerprint"] == certificate.fingerprint(hashes.SHA256()).hex()
    refused = invoke(*port, *answer)
    assert "no key of unit" in str(refused.exception) and "--csr-out" in str(refused.exception)


def test_an_external_authority_may_have_rsa_keys_of_4096_bits_from_the_root_down(
    shared: Unit, authority: Authority, config: bytes, tmp_path: Path
) -> None:
    provision(shared.board.usb_url, authority, config)
    port, request = ("--port", shared.board.usb_url), tmp_path / "unit.csr"
    assert invoke(*port, "--csr-out", str(request)).exit_code == 0
    weak = OtherAuthority(keys=((4096,), (1024,)))
    (tmp_path / "answer.pem").write_bytes(pem(weak.sign(request), *weak.chain))
    refused = invoke(*port, "--cert-in", str(tmp_path / "answer.pem"))
    assert "'Other 1' has an RSA key of 1024 bits" in str(refused.exception)
    other = OtherAuthority(keys=((4096,), (4096,)))
    certificate = other.sign(request)
    (tmp_path / "answer.pem").write_bytes(pem(certificate, *other.chain))
    done = invoke(*port, "--cert-in", str(tmp_path / "answer.pem"))
    assert done.exit_code == 0, done.exception
    after = shared.files()
    assert after["cert.der"] == shown.der(certificate, *reversed(other.chain[1:]))
    assert after["ca.der"] == other.chain[0].public_bytes(serialization.Encoding.DER)
    assert private_key(after["key.der"]).public_key() == certificate.public_key()


def test_an_answer_that_is_not_the_units_is_refused_before_it_crosses_the_wire(
    shared: Unit, authority: Authority, config: bytes, tmp_path: Path
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, port = shared.files(), ("--port", shared.board.usb_url)
    request = tmp_path / "unit.csr"
    assert invoke(*port, "--csr-out", str(request)).exit_code == 0
    other = OtherAuthority()
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "answer.pem").write_bytes(pem(other.sign(request, key=stranger), *other.chain))
    start = len(shared.wire)
    done = invoke(*port, "--cert-in", str(tmp_path / "answer.pem"))
    assert isinstance(done.exception, KoblerError) and "none of these certificates" in str(done.exception)
    assert b"enrol.stage" not in shared.wire[start:]
    after = shared.files()
    assert {name: after[name] for name in IDENTITY} == before
    provision(shared.board.usb_url, authority, None)
    assert sorted(shared.files()) == sorted(IDENTITY), "the key that waited is forgotten"


def test_the_unit_itself_refuses_a_chain_with_a_link_that_does_not_hold(
    shared: Unit, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    before = shared.files()
    fake = OtherAuthority()

    class Careless:
        """An authority whose chain nobody on this side has looked at."""

        keep = False
        chain = [fake.chain[1].public_bytes(serialization.Encoding.DER)]

        def certify(self, csr_der: bytes, unit_id: str) -> Answer:
            return Answer(authority.sign_csr(csr_der, unit_id), self.chain, authority.ca_der)

    class Short(Careless):
        chain: list[bytes] = []

    for careless in (Careless(), Short()):
        with pytest.raises(KoblerError, match=r"refused while .* not trusted here: .*; it keeps what it had"):
            provision(shared.board.usb_url, careless, None)
        after = shared.files()
        assert {name: after[name] for name in IDENTITY} == before


def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    shared: Unit, authority: Authority, config: bytes, site: Path, tmp_path: Path
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    done = invoke(
        "--port", shared.board.usb_url, "--config", str(site), "--state", str(tmp_path / "state"), "--dry-run"
    )
    assert done.exit_code == 0 and not (tmp_path / "state").exists()
    assert "it has a certificate" in done.stderr and "would get a new key and certificate and this" in done.stderr
    shared.said_since(start, b"kobler: firmware")
    assert shared.files() == before


# Where the command is killed: at what it says, or after some tenths of a second.
@pytest.mark.parametrize(
    "at", ["signing its certificate", pytest.param("everywhere", marks=[pytest.mark.long, pytest.mark.timeout(400)])]
)
def test_a_line_that_is_killed_goes_on_with_the_board_at_hand(
    built: Build, site: Path, tmp_path: Path, at: str
) -> None:
    state, orders = tmp_path / "state", tmp_path / "orders.csv"
    orders.write_text("serial\nK1-001\n")
    with unit(tmp_path / "flash.bin", built) as it:
        arguments = ["provision", "--port", it.board.usb_url, "--batch", str(orders), "--config", str(site)]
        shell = [sys.executable, "-P", "-m", "kobler", *arguments, "--state", str(state), "--json", "--wait", "20"]
        steps = ["makes its key", "signing its certificate", "copying certificate", "checks what it got"]
        wanted = [words.encode() for words in (steps if at == "everywhere" else [at])]
        for words in wanted:
            process = subprocess.Popen(
                shell, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            assert process.stderr
            for line in process.stderr:
                if words in line:
                    break
            else:
                raise AssertionError(f"{words!r} was never said")
            process.kill()
            process.wait()
            process.stderr.close()
        done = subprocess.run(shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        (serial,) = (json.loads(line) for line in (state / "production" / "ledger.jsonl").read_text().splitlines()[-1:])
        assert (serial["event"], serial["serial"], serial["id"]) == ("done", "K1-001", it.board.mac.hex())
        authority = Authority.open(state / "pki")
        check_identity(it.files(), authority, it)
        assert [entry.fingerprint for entry in authority.entries()] == [serial["fingerprint"]]
        assert sorted(it.files()) == sorted(IDENTITY)
        assert (state / "production" / "labels" / "K1-001.png").read_bytes().startswith(b"\x89PNG")
        again = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
        assert again.returncode == 0 and "every serial number is done" in again.stderr


def test_boards_are_flashed_first_but_not_one_whose_key_waits(built: Build, tmp_path: Path) -> None:
    state = built.folder.parents[1]
    (tmp_path / "orders.csv").write_text("serial\nK1-001\n")
    with unit(tmp_path / "flash.bin", built) as it:
        shell = [sys.executable, "-P", "-m", "kobler", "provision", "--port", it.board.usb_url, "--flash", "virtual"]
        shell += ["--batch", str(tmp_path / "orders.csv"), "--state", str(state), "--wait", "20"]

        def until(words: bytes) -> bytes:
            process = subprocess.Popen(
                shell, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            assert process.stderr
            said = b""
            for line in process.stderr:
                said += line
                if words in line:
                    break
            process.kill()
            process.wait()
            process.stderr.close()
            return said

        it.replace_files(b"\xff" * it.vfs.size)  # nothing on it that could be provisioned
        first = until(b"copying certificate")
        assert b"flashing the board" in first and b"copying certificate" in first
        second = until(b"every serial number is done")
        assert b"flashing" not in second and b"every serial number is done" in second
        check_identity(it.files(), Authority.open(state / "pki"), it)


def test_scanned_serial_numbers_are_done_one_after_the_other_and_a_mistake_is_exit_code_1(
    shared: Unit, tmp_path: Path
) -> None:
    shell = [sys.executable, "-P", "-m", "kobler", "provision", "--scan", "--port", shared.board.usb_url]
    shell += ["--state", str(tmp_path / "state"), "--json"]
    done = subprocess.run(shell, input="K-1\n../K\nK-2\n", capture_output=True, text=True, timeout=100, check=False)
    (event,) = (json.loads(line) for line in done.stdout.splitlines())
    assert (event["event"], event["serial"], event["id"]) == ("provisioned", "K-1", shared.board.mac.hex())
    assert Path(event["label"]).exists()
    assert "NOT DONE: '../K' is no serial number" in done.stderr
    assert f"NOT DONE: unit {event['id']} has serial number K-1; K-2 was not given to it" in done.stderr
    assert done.returncode == 1 and done.stderr.endswith("serial numbers could not be done: '../K', K-2\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--csr-out", "a", "--cert-in", "b"], "--csr-out and --cert-in do not go together"),
        (["--batch", "a", "--scan"], "--batch and --scan do not go together"),
        (["--ca-in", "a"], "--ca-in goes with --cert-in"),
        (["--flash", "virtual"], "are for --batch and --scan"),
        (["--csr-out", "a", "--config", "b"], "--config goes with --cert-in"),
        (["--scan", "--dry-run"], "use it with --batch"),
        (["--batch", "nowhere.csv"], "cannot read nowhere.csv"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = invoke("--port", "/dev/ttyNONE", "--state", str(tmp_path / "state"), *arguments)
    assert isinstance(done.exception, UsageError) and words in str(done.exception)
    assert not (tmp_path / "state").exists()


def test_a_dry_run_of_a_batch_reads_the_list_and_the_ledger_only(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("serial,id\nK-1,\nK-2,246f28aabbcc\n")
    options = ["--batch", str(tmp_path / "orders.csv"), "--dry-run", "--state", str(tmp_path / "state")]
    done = invoke(*options)
    assert done.exit_code == 0 and not (tmp_path / "state").exists()
    assert done.stderr.splitlines() == [
        "K-1: would be made on the next board",
        "K-2: would be made on unit 246f28aabbcc",
    ]
