"""Authorities of one name: a root that changed its key, several certificates for one key, and the way that is found
through them, at the computer and in the unit."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import anchors, chains
from coupler.trust import x509 as unit_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from judged_twice import NAME, UNIT, der, judged, named, request
from kobler.errors import KoblerError
from kobler.provision import external
from other_authority import OtherAuthority, rsa_key


def new_key(other: OtherAuthority, length: int | None, newer: Any) -> x509.Certificate:
    """RFC 4210, 4.4, NewWithOld: the root vouches for its next key, under its own name."""
    name = other.chain[0].subject
    builder = other._builder(name, name, newer.public_key(), ca=True, length=length)
    return builder.sign(other._key, hashes.SHA256())


def below(other: OtherAuthority, key: Any) -> OtherAuthority:
    """An issuer under the last of the chain, which has this key; it is the one that signs then."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuer")])
    own = ec.generate_private_key(ec.SECP256R1())
    builder = other._builder(name, other.chain[-1].subject, own.public_key(), ca=True, length=0)
    other.chain.append(builder.sign(key, hashes.SHA256()))
    other._key = own
    return other


@pytest.mark.parametrize(("length", "good"), [(None, True), (1, True), (0, False)])
@pytest.mark.parametrize("keys", [((2048,),), (None,)], ids=["RSA", "P-256"])
def test_a_root_that_changed_its_key_and_kept_its_name(
    tmp_path: Path, length: int | None, good: bool, keys: tuple[Any]
) -> None:
    other, newer = OtherAuthority(0, lengths=(1,), keys=keys), ec.generate_private_key(ec.SECP256R1())
    other.chain.append(new_key(other, length, newer))
    here, there = judged(tmp_path, below(other, newer))
    if good:  # what is issued to itself does not count for the root's path length of 1
        assert (here, there) == ("", "")
    else:
        assert "'Other 0' may not have so many authorities below it" in here and "'Other 0'" in there


def test_a_way_that_leads_nowhere_is_not_the_last_one(tmp_path: Path) -> None:
    other, newer, unit = OtherAuthority(0), *(ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    old, old_key = other.chain[0], other._key
    bridge, back = new_key(other, None, newer), new_key(other, None, newer)
    other._key = newer
    root, foreign = new_key(other, None, newer), new_key(other, None, old_key)  # OldWithNew
    other.chain = [bridge]
    issuer = below(other, newer).chain[1]
    leaf = other.sign(request(tmp_path, unit))
    everything = [leaf, foreign, root, issuer, back, bridge, old]

    def chain(found: list[x509.Certificate], roots: list[x509.Certificate] | None) -> list[bytes]:
        given = external.answer(found, unit.public_key(), UNIT, roots)
        return [*given.chain, given.ca]

    for found in (everything, everything[::-1]):
        assert chain(found, None) == [der(issuer), der(root)], "a file: up to what is signed by itself"
        assert chain(found, [root]) == [der(issuer), der(root)]
        first = next(one for one in found if one in (bridge, back))
        assert chain(found, [old]) == [der(issuer), der(first), der(old)]
    without = [one for one in everything if one not in (root, old)]
    for roots in (None, [OtherAuthority(0).chain[0]]):
        with pytest.raises(
            KoblerError, match=r"vouch for each other|another key than that of the authority 'CN=Other 0' here"
        ):
            chain(without, roots)


def test_many_authorities_of_one_name_are_tried_once_each(tmp_path: Path) -> None:
    other, unit = OtherAuthority(0), ec.generate_private_key(ec.SECP256R1())
    leaf = other.sign(request(tmp_path, unit))
    knot = [new_key(other, None, other._key) for _ in range(60)]
    start = time.monotonic()
    with pytest.raises(KoblerError, match=r"vouch for each other|more than 4"):
        external.answer([leaf, *knot], unit.public_key(), UNIT, OtherAuthority(0).chain)
    assert time.monotonic() - start < 10


def test_of_two_authorities_of_one_name_and_key_the_one_that_fits_is_taken() -> None:
    other, unit = OtherAuthority(0), ec.generate_private_key(ec.SECP256R1())
    first, second = new_key(other, None, other._key), other.chain[0]
    builder = other._builder(NAME, second.subject, unit.public_key())
    for one in (first, second):
        leaf = builder.add_extension(named(None, serial=one.serial_number), False).sign(other._key, hashes.SHA256())
        assert external.answer([leaf, first, second], unit.public_key(), UNIT).ca == der(one)


def test_another_key_is_not_called_a_missing_authority(tmp_path: Path) -> None:
    other, key = OtherAuthority(), ec.generate_private_key(ec.SECP256R1())
    leaf = other.sign(request(tmp_path, key))
    found = [leaf, *OtherAuthority().chain]
    with pytest.raises(
        KoblerError, match=f"of '{UNIT}' is signed by another key than that of the authority 'CN=Other 1' here"
    ):
        external.answer(found, key.public_key(), UNIT)


def root(name: str, key: Any, issuer: str | None = None, signer: Any = None) -> unit_x509.Certificate:
    """An authority's certificate as the unit reads it."""
    subject, above = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer or name)
    )
    made = OtherAuthority(0)._builder(subject, above, key.public_key(), ca=True).sign(signer or key, hashes.SHA256())
    return unit_x509.Certificate(der(made))


def test_an_rsa_root_rolls_over_to_the_key_that_the_old_one_vouches_for_and_to_no_other() -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    old_key, new_key, third = rsa_key(2048), rsa_key(3072), rsa_key(2048, 3)
    old, new = root("Old", old_key), root("New", new_key)
    proof = root("New", new_key, "Old", old_key)
    assert anchors.rolled([old], [new, proof], now) == ([old, new], [new])
    # The key is the third's, and the one that is vouched for signed it.
    other = root("New", third, signer=new_key)
    chains.check_signed_by(other, proof)
    assert other.issuer == other.subject
    assert anchors.rolled([old], [other, proof], now) == ([old], [])
    assert anchors.rolled([old], [new, root("New", new_key, "Old", third)], now) == ([old], [])
