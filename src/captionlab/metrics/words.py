"""Which words of the references a model produces, and which it misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The words that captions are about, in the singular; colours and numbers of English, relations of
# place, and the people, animals, things and shapes that photo captions name most.
_WORDS = {
    "colour": (
        "black white grey gray red green blue yellow orange purple pink brown tan beige gold "
        "golden silver blond blonde"
    ),
    "number": (
        "one two three four five six seven eight nine ten several many few group pair couple "
        "both another"
    ),
    "relation": (
        "left right above below over under on in behind beside between near by through across "
        "around against along inside outside into onto off down up front next top with"
    ),
    "object": (
        "man woman boy girl child baby kid person people adult toddler lady player crowd family "
        "skateboarder biker cyclist climber surfer skier snowboarder swimmer runner dancer "
        "dog puppy cat horse cow sheep elephant bear zebra giraffe bird duck animal "
        "ball frisbee toy stick bike bicycle motorcycle car truck bus train boat airplane "
        "skateboard surfboard snowboard ski kite racket bat helmet shirt jacket coat dress hat "
        "cap glasses sunglasses jeans shorts suit uniform vest swimsuit bag umbrella camera "
        "phone sign bench chair table bed couch toilet sink oven refrigerator computer laptop "
        "book clock vase bottle cup glass bowl plate fork knife spoon banana apple sandwich "
        "broccoli carrot pizza donut cake food grass tree field park street road sidewalk "
        "building house wall window door fence bridge stair hill mountain rock cliff water "
        "ocean sea beach lake river pool wave snow sand dirt mud sky fountain swing slide "
        "circle disc square box triangle star cross plus"
    ),
}
CATEGORIES = {name: tuple(words.split()) for name, words in _WORDS.items()}
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "babies": "baby", "ladies": "lady",
    "puppies": "puppy", "knives": "knife", "crosses": "cross", "boxes": "box", "buses": "bus",
    "beaches": "beach", "benches": "bench", "couches": "couch", "branches": "branch",
    "families": "family", "sandwiches": "sandwich", "persons": "person", "dresses": "dress",
}  # fmt: skip


@dataclass(frozen=True)
class WordCount:
    """One word, or all of a category, over the images.

    Attributes:
        category: a key of `CATEGORIES`.
        word: in the singular; `all` for the sum over the category.
        agreed: images of which at least half of the references have the word.
        found: those of them whose caption has it too.
        produced: images whose caption has the word.
        supported: those of them of which at least one reference has it too.
    """

    category: str
    word: str
    agreed: int
    found: int
    produced: int
    supported: int

    @property
    def recall(self) -> float | None:
        """Of what people agree on, the share that is produced; None if there is nothing."""
        return self.found / self.agreed if self.agreed else None

    @property
    def precision(self) -> float | None:
        """Of what is produced, the share that a reference supports; None if there is nothing."""
        return self.supported / self.produced if self.produced else None


def word_table(
    captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[Sequence[str]]]
) -> list[WordCount]:
    """Count content words by category, most agreed first, each category after its sum.

    Args:
        captions: image id to tokenised caption.
        references: image id to tokenised references, at least one.
    """
    category_of = {word: name for name, words in CATEGORIES.items() for word in words}
    counts = {word: [0, 0, 0, 0] for word in category_of}
    for image, caption in captions.items():
        written = {_singular(word) for word in caption} & category_of.keys()
        sets = [{_singular(word) for word in reference} for reference in references[image]]
        mentioned = set().union(*sets) & category_of.keys()
        for word in written | mentioned:
            agreed = 2 * sum(word in words for words in sets) >= len(sets)
            count = counts[word]
            count[0] += agreed
            count[1] += agreed and word in written
            count[2] += word in written
            count[3] += word in written and word in mentioned
    table = []
    for category, words in CATEGORIES.items():
        used = sorted((w for w in words if any(counts[w])), key=lambda w: -counts[w][0])
        sums = (sum(counts[word][i] for word in used) for i in range(4))
        table.append(WordCount(category, "all", *sums))
        table += [WordCount(category, word, *counts[word]) for word in used]
    return table


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("s") and word[:-1] in _SINGULARS:
        return word[:-1]
    return word


_SINGULARS = frozenset(CATEGORIES["object"])
