#!/usr/bin/env python3
"""Checks exports of a receipt with implementations that share no code with Cairn.

    pip install opentimestamps cbor2 cryptography
    scripts/verify_exports.py paper.cairn paper      # with paper.cairn.{tlog-proof,cose,ots} beside it

Reads the header from the receipt, so that an export must lead to that very log. Prints one line for each export and ends with
status 1 when one does not hold.
"""

import base64
import hashlib
import io
import json
import struct
import sys
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from opentimestamps.core.notary import UnknownAttestation
from opentimestamps.core.serialize import StreamDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2."""
    assert index < size
    node, last, below = index, size - 1, leaf
    for sibling in path:
        assert last > 0
        if node & 1 or node == last:
            below = sha256(b"\x01", sibling, below)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            below = sha256(b"\x01", below, sibling)
        node, last = node >> 1, last >> 1
    assert last == 0
    return below


def header_of(receipt):
    """The chain, size and SHA-256 root of the log in a receipt's header (docs/FORMATS.md, Header)."""
    header = base64.b64decode(receipt["header"])
    at = 1 + 32 + 8 + 8 + 8 + 32 + 8 + 8 + 2 + 32 + 4 + 32 + 32
    (size,) = struct.unpack_from("<Q", header, at)
    return header, header[1:33].hex(), size, header[at + 8 : at + 40]


def verify_note(note, chain, size, root):
    """Every signature that names its key by the key's own id; gives how many hold."""
    body, signatures = note.split("\n\n")
    body += "\n"
    origin, size_line, root_line = body.splitlines()
    assert origin == f"cairn/{chain}" and int(size_line) == size and base64.b64decode(root_line) == root
    return body, [line[2:].split(" ") for line in signatures.strip("\n").split("\n")]


def tlog_proof(text, record, chain, size, root, keys):
    head, note = text.split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    lines = [line for line in lines[1:] if not line.startswith("extra ")]
    index = int(lines[0].removeprefix("index "))
    path = [base64.b64decode(line) for line in lines[1:]]
    assert root_of(sha256(b"\x00", record), index, size, path) == root
    body, signatures = verify_note(note, chain, size, root)
    held = 0
    for name, data in signatures:
        data = base64.b64decode(data)
        for public in keys:
            if data[:4] == sha256(name.encode(), b"\n\x01", public)[:4]:
                Ed25519PublicKey.from_public_bytes(public).verify(data[4:], body.encode())
                held += 1
            if data[:4] == sha256(name.encode(), b"\n\x04", public)[:4]:
                (time,) = struct.unpack(">Q", data[4:12])
                message = f"cosignature/v1\ntime {time}\n{body}".encode()
                Ed25519PublicKey.from_public_bytes(public).verify(data[12:], message)
                held += 1
    assert held, "no signature of a key that is known"
    return f"record {index} of {size}, {held} note signatures"


def cose(data, record, size, root):
    message = cbor2.loads(data)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    header = cbor2.loads(protected)
    assert header[1] == -8 and header[395] == 1 and payload is None
    tree_size, index, path = cbor2.loads(unprotected[396][-1][0])
    assert tree_size == size and root_of(sha256(b"\x00", record), index, size, path) == root
    signed = cbor2.dumps(["Signature1", protected, b"", root])
    Ed25519PublicKey.from_public_bytes(header[4]).verify(signature, signed)
    return header[4], f"record {index} of {size}, EdDSA by {header[4].hex()[:16]}"


def ots(data, file_digest, header):
    detached = DetachedTimestampFile.deserialize(StreamDeserializationContext(io.BytesIO(data)))
    assert detached.file_digest == file_digest, "it is about another file"
    attested = list(detached.timestamp.all_attestations())
    assert len(attested) == 1
    message, attestation = attested[0]
    assert isinstance(attestation, UnknownAttestation) and attestation.TAG == b"cairnlog"
    assert message == header, "it leads to another header"
    return "every step leads to the receipt's header; its attestation is of Cairn's own kind"


def main():
    receipt_path, file = Path(sys.argv[1]), Path(sys.argv[2])
    receipt = json.loads(receipt_path.read_text())
    header, chain, size, root = header_of(receipt)
    record = base64.b64decode(receipt["record"])
    failed, keys = False, []
    beside = {kind: Path(f"{receipt_path}.{kind}") for kind in ["cose", "tlog-proof", "ots"]}
    for kind, path in beside.items():
        if not path.exists():
            continue
        try:
            if kind == "cose":
                key, said = cose(path.read_bytes(), record, size, root)
                keys.append(key)
            elif kind == "tlog-proof":
                said = tlog_proof(path.read_text(), record, chain, size, root, keys)
            else:
                said = ots(path.read_bytes(), hashlib.sha256(file.read_bytes()).digest(), header)
            print(f"{kind:<11} ok      {said}")
        except (AssertionError, InvalidSignature, ValueError, KeyError) as fault:
            failed = True
            print(f"{kind:<11} FAILED  {fault!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
