"""The key of an image: what its stored result was made from.

key = SHA-256 of "<SHA-256 of the image file> <identity of the chain>", and the identity is a hash of the configuration
of all stages and of the content of their weights. Equal keys: equal bytes went through equal stages. All faces of a
photograph have its key.
"""

import hashlib


def image_key(image_sha256: str, identity: str) -> str:
    """Return the key of an image, 64 hex digits.

    Args:
        image_sha256: of the bytes of the image file, 64 hex digits.
        identity: of the chain, as `store.json` says it.
    """
    return hashlib.sha256(f"{image_sha256} {identity}".encode()).hexdigest()
