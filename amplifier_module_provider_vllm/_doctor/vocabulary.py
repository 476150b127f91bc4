"""Check that tokens of gpt-oss can be counted where its server does not count them."""

import asyncio

from .._harmony.vocabulary import CHECKSUMS, FOLDER_VARIABLE, Vocabulary
from .findings import Finding, note, ok


async def vocabulary(kept: Vocabulary) -> Finding:
    """Looked for where a session looks, but not fetched: that is done when a session needs it."""
    if await asyncio.to_thread(kept.load) is not None:
        return ok("vocabulary", "there, for replies that the server does not count")
    said = "not there; fetched when a reply comes that the server did not count"
    files = " and ".join(CHECKSUMS)
    return note("vocabulary", said, f"without internet: put {files} into a folder, and name it in {FOLDER_VARIABLE}")
