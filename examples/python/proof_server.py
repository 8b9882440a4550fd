#!/usr/bin/env python3
"""A proof server in one file: batches digests, anchors their Merkle root, hands out receipts.

    pip install blake3 cryptography        (a cryptography with ML-DSA: 50 has it)
    proof_server.py anchor --url http://127.0.0.1:26657 --out receipts FILE [FILE ...]
    proof_server.py finish --url http://127.0.0.1:26657 --out receipts receipts/batch-....json    (after a crash)

Written from docs/FORMATS.md and docs/API.md, without any of Cairn's own code, to be read and copied: `Batch`, `Signer` and
`Node` are all that a backend needs. Each FILE gets `receipts/FILE.cairn`, which verifies offline with nothing but
the genesis file: `cairn verify FILE --receipt receipts/FILE.cairn --genesis genesis.json`.

It signs with ML-DSA-65, which standard software has; the network's own scheme may be any. Exit code: 0 when every receipt is
written, 1 when the node refuses or cannot be reached, 2 for wrong arguments.
"""

import argparse
import base64
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request

from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

ML_DSA_65 = 2  # the scheme's number in keys
BATCH, CAIRN_B3 = 0, 1  # a proof's kind and tree
LIFETIME_MS = 60_000  # how long a transaction may wait; the chain refuses more than its replay window


def H(context, message):
    """BLAKE3 in derive-key mode: one context for each kind of object (FORMATS, Hashing)."""
    return blake3(message, derive_key_context=f"cairn 2026 {context} v1").digest()


def number(value, size):
    return value.to_bytes(size, "little")


def lengthy(data):
    return number(len(data), 4) + data


class Batch:
    """A tree over salted digests (FORMATS, Batch trees). Its salts keep others from guessing what was anchored.

    Keep `salts` until the receipts are written: without them no receipt can be made, whatever is on the chain."""

    def __init__(self, digests, salts=None):
        if not digests or any(len(digest) != 32 for digest in digests):
            raise ValueError("a batch holds at least one digest, and each has 32 bytes")
        self.digests = digests
        self.salts = salts or [secrets.token_bytes(16) for _ in digests]
        level = [H("batch-leaf", salt + digest) for salt, digest in zip(self.salts, digests)]
        self.levels = [level]
        while len(level) > 1:
            # Leaves are paired from the left; a last one without a partner goes up as it is.
            level = [H("batch-node", level[i] + level[i + 1]) if i + 1 < len(level) else level[i]
                     for i in range(0, len(level), 2)]
            self.levels.append(level)
        self.root = H("batch-root", number(len(digests), 8) + level[0])

    def path(self, index):
        """The siblings of a leaf, nearest first."""
        siblings = []
        for level in self.levels[:-1]:
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index >>= 1
        return siblings

    def receipt(self, core, index):
        """A leaf's receipt: that of the root, with the leaf and its way to the root."""
        it = dict(core)
        it["subject"] = {"digest": self.digests[index].hex(), "algorithm": "blake3", "salt": self.salts[index].hex()}
        if len(self.digests) > 1:
            it["batch"] = {"index": index, "path": [sibling.hex() for sibling in self.path(index)]}
        return it


class Signer:
    """An ML-DSA-65 key. Its address is a hash of the public key: nothing has to be registered before."""

    def __init__(self, key):
        self.key = key
        self.public = key.public_key().public_bytes_raw()
        self.address = H("address", bytes([ML_DSA_65]) + self.public)

    @classmethod
    def load_or_make(cls, path):
        """The PEM file's key; a fresh one is written there first, for its owner alone to read."""
        if not os.path.exists(path):
            pem = MLDSA65PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
        with open(path, "rb") as file:
            return cls(serialization.load_pem_private_key(file.read(), None))

    def proof(self, chain, root, leaves, reference=""):
        """A signed PROOF transaction, base64 of its canonical bytes (FORMATS, Transactions)."""
        expires_ms = int(time.time() * 1000) + LIFETIME_MS
        proof = bytes([BATCH, CAIRN_B3]) + root + number(leaves, 8) + lengthy(reference.encode())
        proof += b"\0\0\0" + lengthy(b"")  # no previous, subject, on_behalf_of; no metadata
        key = bytes([0, ML_DSA_65]) + lengthy(self.public)  # inline, not registered
        transaction = b"\1" + chain + self.address + number(secrets.randbits(64), 8) + number(expires_ms, 8)
        transaction += number(1, 4) + key + bytes([7]) + number(1, 4) + proof
        signature = self.key.sign(b"cairn-tx".ljust(16, b"\0") + chain + transaction)
        return base64.b64encode(transaction + number(1, 4) + lengthy(signature)).decode()


class Refused(Exception):
    """The node's error: its message, its kind, what to do."""


class Node:
    """JSON-RPC over HTTP. What the node calls retryable is tried again, and so is a call that got no answer:
    submitting the same transaction twice gives the same proof."""

    def __init__(self, url, patience_s=30):
        self.url, self.patience_s = url, patience_s

    def call(self, method, **params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        until = time.monotonic() + self.patience_s
        while True:
            try:
                with urllib.request.urlopen(request, timeout=self.patience_s) as answer:
                    answer = json.load(answer)
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                failure, pause = Refused(f"{self.url} does not answer: {error}"), 0.2
            else:
                if "result" in answer:
                    return answer["result"]
                data = answer["error"].get("data", {})
                failure = Refused(f"{answer['error']['message']} ({data.get('kind')}; {data.get('hint')})")
                if not data.get("retryable"):
                    raise failure
                pause = data.get("retry_after_ms", 200) / 1000
            if time.monotonic() + pause > until:
                raise failure
            time.sleep(pause)


def anchor(node, signer, batch, reference=""):
    """Anchors a batch; gives the receipt of its root once it is final."""
    chain = bytes.fromhex(node.call("chain_status")["chain"])
    transaction = signer.proof(chain, batch.root, len(batch.digests), reference)
    return node.call("proof_anchor", tx=transaction, wait="final")["receipt"]


def write_synced(path, data):
    """A file that is there after a power cut, whole or not at all."""
    with open(path + ".tmp", "w") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def anchor_files(options):
    digests = []
    for path in options.files:
        digests.append(blake3().update_mmap(path).digest())  # whatever its size
    batch = Batch(digests)
    os.makedirs(options.out, exist_ok=True)
    # Before anything is submitted: with these salts the receipts can still be made after a crash.
    kept = os.path.join(options.out, f"batch-{batch.root.hex()[:16]}.json")
    leaves = [{"file": path, "digest": digest.hex(), "salt": salt.hex()}
              for path, digest, salt in zip(options.files, digests, batch.salts)]
    write_synced(kept, json.dumps({"root": batch.root.hex(), "leaves": leaves}, indent=1))
    finish(options, kept, options.files, batch)


def finish_batch(options):
    try:
        with open(options.batch, encoding="utf-8") as file:
            leaves = [(it["file"], bytes.fromhex(it["digest"]), bytes.fromhex(it["salt"])) for it in json.load(file)["leaves"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{options.batch} is no batch that an interrupted run left: {error!r}") from error
    files, digests, salts = map(list, zip(*leaves))
    os.makedirs(options.out, exist_ok=True)
    finish(options, options.batch, files, Batch(digests, salts))


def finish(options, kept, files, batch):
    """Anchors a batch whose leaves are on disk. One that was anchored before is found again: a proof's id is a hash of
    what it says and who says it."""
    core = anchor(Node(options.url, options.patience), Signer.load_or_make(options.key), batch)
    for index, path in enumerate(files):
        name = os.path.join(options.out, os.path.basename(path) + ".cairn")
        write_synced(name, json.dumps(batch.receipt(core, index), indent=2) + "\n")
    os.remove(kept)
    print(f"{len(files)} receipts in {options.out}, root {batch.root.hex()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("anchor", help="anchor files and write their receipts")
    verb.add_argument("files", nargs="+", metavar="FILE")
    verb.set_defaults(run=anchor_files)
    again = verbs.add_parser("finish", help="go on with a batch that an interrupted run left in its folder")
    again.add_argument("batch", metavar="BATCH.json")
    again.set_defaults(run=finish_batch)
    for it in (verb, again):
        it.add_argument("--url", default="http://127.0.0.1:26657", help="a node's JSON-RPC (default: %(default)s)")
        it.add_argument("--key", default="proof-server.pem", help="signing key, made when missing (default: %(default)s)")
        it.add_argument("--out", default="receipts", help="folder for the receipts (default: %(default)s)")
        it.add_argument("--patience", type=float, default=30, metavar="SECONDS",
                        help="how long to try again what may succeed later (default: %(default)s)")
    options = parser.parse_args()
    names = [os.path.basename(path) for path in getattr(options, "files", ())]
    if len(set(names)) < len(names):
        parser.error("two FILEs have the same name: their receipts would overwrite each other")
    try:
        options.run(options)
    except (Refused, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
