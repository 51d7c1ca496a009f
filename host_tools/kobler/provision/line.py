"""A production line: one unit after another gets its serial number, key, certificate, configuration and label.

Every step is in the ledger before the next begins, and each can be done again: after a crash at any point the same
serial number goes on with the same key and the same certificate. The unit keeps its key in a file until it has its
certificate, and of the authority's records that certificate is taken which is for this key.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509

from ..errors import KoblerError, UsageError
from ..pki import certificates, files, requests
from . import label
from .ledger import BEGUN, DONE, FAILED, LOCKING, SERIAL, SIGNED, VOID, Ledger, LedgerError, Piece
from .steps import Certifier, Lock, Progress, Provisioned, agree, install
from .unit import ID, Unit


@dataclass(frozen=True)
class Order:
    """A serial number, and the unit that is to have it, if that is known."""

    serial: str
    id: str | None = None


def read_orders(path: Path) -> list[Order]:
    """The rows of a CSV file with a column `serial` and, where the units are known, `id`. UsageError names the line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)  # a quote that is never closed is an error
            columns = list(rows.fieldnames or ())
            if "serial" not in columns:
                raise UsageError(f"{path}: its first line must name the columns, one of them `serial`")
            for name in ("serial", "id"):
                if columns.count(name) > 1:
                    raise UsageError(f"{path}: its first line names {columns.count(name)} columns `{name}`: leave one")
            found = [(rows.line_num, row["serial"], row.get("id")) for row in rows]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not CSV in UTF-8 ({error})") from None
    orders: list[Order] = []
    seen: dict[str, int] = {}
    for line, serial, unit_id in found:
        try:
            order = Order(check_serial((serial or "").strip()), _check_id((unit_id or "").strip()))
        except UsageError as error:
            raise UsageError(f"{path}:{line}: {error}") from None
        for name in {order.serial.casefold(), order.id or order.serial.casefold()}:
            if name in seen:
                raise UsageError(f"{path}:{line}: {name} stands in line {seen[name]} already")
            seen[name] = line
        orders.append(order)
    if not orders:
        raise UsageError(f"{path} has no serial numbers")
    return orders


def check_serial(serial: str) -> str:
    if not SERIAL.fullmatch(serial):
        rule = "1 to 32 letters, digits, '.', '_' or '-', a letter or digit first"
        raise UsageError(f"{serial!r} is no serial number: use {rule}")
    return serial


def _check_id(unit_id: str) -> str | None:
    if unit_id and not ID.fullmatch(unit_id.lower()):
        raise UsageError(f"{unit_id!r} is no unit's id: hexadecimal digits, as the unit shows it")
    return unit_id.lower() or None


def outlook(pieces: Mapping[str, Piece], order: Order, stand: Callable[[Piece], bool] | None = None) -> str:
    """What would happen to this serial number. `stand`: whether what it was given was not taken back."""
    piece = pieces.get(order.serial)
    if piece is None:
        return f"would be made on {'unit ' + order.id if order.id else 'the next board'}"
    if stand and piece.fingerprint and not stand(piece):
        return _taken_back(piece)
    if piece.done:
        return f"is done: unit {piece.id}"
    return f"would go on with unit {piece.id}: {'its certificate is signed' if piece.fingerprint else 'it was begun'}"


def _taken_back(piece: Piece) -> str:
    words = f"the certificate of unit {piece.id} was revoked (or is another authority's)"
    return f"{words}; for a new one: --reissue {piece.serial}"


class Keeper(Certifier, Protocol):
    """An authority with a memory of what it gave, so that no unit gets it twice."""

    def ready(self) -> None:
        """Whatever has to be asked of a person is asked now: later, others read the keyboard."""

    def stands(self, unit_id: str, certificate: str) -> bool:
        """Whether this unit was given the certificate with this serial number, and it was not taken back."""

    def of_unit(self, unit_id: str) -> list[x509.Certificate]:
        """What this unit was given and was not taken back."""

    def with_chain(self, certificate: bytes) -> requests.Answer:
        """One of these, with all that the unit is to have."""

    def revoke(self, what: str, reason: str) -> object:
        """Take back the one with this serial number."""


def stands(authority: Keeper, piece: Piece) -> bool:
    """Whether what this piece was given was not taken back."""
    return piece.certificate is not None and authority.stands(piece.id, piece.certificate)


class Line:
    def __init__(
        self,
        ledger: Ledger,
        authority: Keeper,
        labels: Path,
        config: bytes | None,
        say: Progress,
        lock: Lock | None = None,
    ) -> None:
        self._ledger, self._authority, self._labels = ledger, authority, labels
        self._config, self._say, self._lock = config, say, lock

    def is_done(self, order: Order) -> bool:
        piece = self._ledger.pieces.get(order.serial)
        return piece is not None and piece.done and stands(self._authority, piece)

    def complaint(self, order: Order) -> str | None:
        """Why this serial number cannot be done without a word from a person."""
        piece = self._ledger.pieces.get(order.serial)
        if piece is None or piece.fingerprint is None or stands(self._authority, piece):
            return None
        return f"serial number {piece.serial}: {_taken_back(piece)}"

    def fresh(self, unit_id: str) -> bool:
        """Whether nothing on this unit is needed: it may be flashed."""
        return self._ledger.piece_of(unit_id) is None

    def choose(self, orders: Iterable[Order], unit_id: str) -> Order:
        """The one of these that the unit with this id gets: its own, else the first that nobody has."""
        piece = self._ledger.piece_of(unit_id)
        orders = list(orders)
        for order in orders:
            if (piece and order.serial == piece.serial) or (order.id == unit_id and not piece):
                return order
        if piece:
            raise KoblerError(f"unit {unit_id} has serial number {piece.serial}, which is not in this batch")
        for order in orders:
            if order.id is None and order.serial not in self._ledger.pieces:
                return order
        raise KoblerError(f"no serial number is left for unit {unit_id}: is it one of this batch?")

    def void(self, serial: str) -> None:
        """Take back what this serial number got; it begins anew, on any board."""
        piece = self._ledger.pieces.get(serial)
        if piece is None:
            raise UsageError(f"serial number {serial} is not in the ledger: there is nothing to issue again")
        for one in self._mine(piece):
            self._authority.revoke(certificates.serial(one), "superseded")
        self._ledger.add(VOID, piece, fingerprint=piece.fingerprint)

    def work(self, unit: Unit, order: Order) -> Provisioned | None:
        """Do all that is left to be done for this unit under this serial number; None if it was done already."""
        piece = self._looked_up(unit.id, order)
        if piece is not None and piece.done:
            self._done_already(piece)
            return None
        agree(unit, self._lock, self._say)
        if piece is None:
            piece = self._begin(unit, order)
        try:
            return self._finish(unit, piece)
        except LedgerError:
            raise  # nothing more is written to it
        except KoblerError as error:
            self._ledger.add(FAILED, piece, text=str(error))
            raise

    def locked(self, unit_id: str, order: Order) -> bool:
        """For a unit that locked its console: whether all was done to it. It was, if that was this line's lock."""
        piece = self._looked_up(unit_id, order)
        if piece is None or not (piece.locking or piece.done):
            return False
        if not piece.done:
            # A crash came between the lock and the ledger.
            self._ledger.add(DONE, piece, fingerprint=piece.fingerprint)
        self._done_already(piece)
        return True

    def _looked_up(self, unit_id: str, order: Order) -> Piece | None:
        """What the ledger has of both; None if it has neither."""
        other, piece = self._ledger.piece_of(unit_id), self._ledger.pieces.get(order.serial)
        if other and other is not piece:
            raise KoblerError(f"unit {unit_id} has serial number {other.serial}; {order.serial} was not given to it")
        twin = next((one for one in self._ledger.pieces if one.casefold() == order.serial.casefold()), order.serial)
        if twin != order.serial:
            raise KoblerError(f"serial number {order.serial} differs from {twin} in the ledger by case alone")
        if piece and piece.id != unit_id:
            raise KoblerError(
                f"serial number {piece.serial} belongs to unit {piece.id}, this is {unit_id}; "
                f"to give it to this one: --reissue {piece.serial}"
            )
        if order.id and order.id != unit_id:
            raise KoblerError(f"serial number {order.serial} is meant for unit {order.id}, this is {unit_id}")
        complaint = self.complaint(order)
        if complaint:
            raise KoblerError(complaint)
        return piece

    def _begin(self, unit: Unit, order: Order) -> Piece:
        # What the unit has from elsewhere is none of this line's.
        unit.forget()  # nor is a key that waits there, and that may have a certificate
        known = [certificates.serial(one) for one in self._authority.of_unit(unit.id)]
        self._ledger.add(BEGUN, Piece(order.serial, unit.id), known=known)
        return self._ledger.pieces[order.serial]

    def _done_already(self, piece: Piece) -> None:
        self._say(f"{piece.serial}: done already, unit {piece.id}")
        self._label(piece)

    def _finish(self, unit: Unit, piece: Piece) -> Provisioned | None:
        if piece.fingerprint and unit.fingerprint() == piece.fingerprint:
            self._say(f"{piece.serial}: unit {unit.id} has its certificate")
            unit.forget()  # a crash may have come before its key was no longer waiting
            found = None
        else:
            found = install(unit, self._given(unit, piece), self._config, self._say)
        self._label(piece)
        if self._lock is not None:
            if not piece.locking:
                self._ledger.add(LOCKING, piece, fingerprint=piece.fingerprint)
            unit.lock(self._lock.owner)
        self._ledger.add(DONE, piece, fingerprint=piece.fingerprint)
        self._say(f"{piece.serial}: done, unit {unit.id}")
        return found

    def _given(self, unit: Unit, piece: Piece) -> requests.Answer:
        given = self._mine(piece)
        if given and not unit.waits():
            raise KoblerError(
                f"serial number {piece.serial} was given a certificate, but unit {unit.id} has lost the key for it "
                f"(was it flashed or erased meanwhile?); for a new one: --reissue {piece.serial}"
            )
        self._say(f"{piece.serial}: unit {unit.id} makes its key")
        request = unit.request(keep=True)
        key = requests.key_of(request, unit.id)
        mine = next((one for one in given if one.public_key() == key), None)
        if mine is None and given:
            raise KoblerError(
                f"serial number {piece.serial} was given a certificate for another key of unit {unit.id}; "
                f"for a new one: --reissue {piece.serial}"
            )
        if mine is not None:
            found = self._authority.with_chain(files.certificate_der(mine))
        else:
            self._say(f"{piece.serial}: signing its certificate")
            found = self._authority.certify(request, unit.id)
        if piece.fingerprint is None:
            signed = x509.load_der_x509_certificate(found.certificate)
            self._ledger.add(
                SIGNED,
                piece,
                certificate=certificates.serial(signed),
                fingerprint=certificates.fingerprint(signed),
                not_after=signed.not_valid_after_utc.isoformat(),
            )
        return found

    def _mine(self, piece: Piece) -> list[x509.Certificate]:
        # What was signed since it was begun, also when a crash came before the ledger heard of it.
        return [one for one in self._authority.of_unit(piece.id) if certificates.serial(one) not in piece.known]

    def _label(self, piece: Piece) -> None:
        assert piece.fingerprint is not None
        label.write(self._labels / f"{piece.serial}.png", piece.id, piece.serial, piece.fingerprint)
