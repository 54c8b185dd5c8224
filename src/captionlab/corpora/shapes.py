"""The embedded data set: drawn scenes with captions, in the layout of the original Flickr8k.

Each scene has one or two objects, each with a shape, a colour and a size, on a coloured background;
a caption may say how the two are placed. Captions from a small grammar describe it, in reading
order, with synonyms and leaving things out, as people do. Nothing about a scene can be guessed
without seeing it: all choices are uniform.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from captionlab.files import fill_once, write_json

_VERSION = 2  # of scenes and grammar: a change makes another data set
_SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus"),
}
_COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (250, 210, 50),
    "purple": (148, 70, 189),
    "orange": (255, 127, 14),
}
_BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (25, 25, 25),
    "grey": (140, 140, 140),
    "pink": (250, 190, 205),
}
_SIZES = {"small": ("small", "little"), "large": ("large", "big")}
_RADII = {"small": 0.14, "large": 0.22}  # of the side of the scene
_RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_SUPERSAMPLING = 4
NUM_REFERENCES = 5  # captions of a photo that is not for training
ATTRIBUTES = ("number", "shape", "colour", "size", "relation", "background")
_SIZE_OF = {word: size for size, words in _SIZES.items() for word in words}
_SHAPE_OF = {word: shape for shape, words in _SHAPES.items() for word in words}
# The word of a relation that no other has.
_RELATION_OF = {
    word: relation
    for relation, phrases in _RELATIONS.items()
    for phrase in phrases
    for word in phrase.split()
    if word not in ("to", "the", "of")
}


@dataclass(frozen=True)
class SceneObject:
    """One object; centre and radius in units of the side of the scene."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        return _RADII[self.size]


@dataclass(frozen=True)
class Scene:
    """What is drawn."""

    background: str
    objects: tuple[SceneObject, ...]


def recipe(
    num_train: int,
    num_val: int,
    num_test: int,
    image_size: int,
    seed: int,
    num_captions: int = NUM_REFERENCES,
) -> dict[str, int]:
    """Everything that the files of `generate_shapes` depend on, which has the same arguments."""
    return {
        "version": _VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "num_test": num_test,
        "image_size": image_size,
        "seed": seed,
        "num_captions": num_captions,
    }


def generate_shapes(
    root: Path,
    num_train: int,
    num_val: int,
    num_test: int,
    image_size: int,
    seed: int,
    num_captions: int = NUM_REFERENCES,
) -> None:
    """Generate the data set in `root`, unless there is such a folder; several processes do it once.

    Args:
        root: gets `images/`, `text/` as in the original Flickr8k, and `scenes.jsonl`.
        num_train: photos in the training list.
        num_val: photos in the development list.
        num_test: photos in the test list.
        image_size: side of a photo, in pixels.
        seed: equal seeds give equal files.
        num_captions: of each training photo; the others have five.
    """
    arguments = recipe(num_train, num_val, num_test, image_size, seed, num_captions)

    def fill(folder: Path) -> None:
        _write(folder, arguments)
        write_json(folder / "generator.json", arguments)

    fill_once(root, fill)


def read_scenes(root: Path) -> dict[str, Scene]:
    """Photo name to scene, of a data set that `generate_shapes` wrote to `root`."""
    scenes = {}
    for line in (root / "scenes.jsonl").read_text().splitlines():
        entry = json.loads(line)
        objects = tuple(SceneObject(**fields) for fields in entry["objects"])
        scenes[entry["image"]] = Scene(entry["background"], objects)
    return scenes


def check_caption(words: Sequence[str], scene: Scene) -> dict[str, tuple[int, int]]:
    """Count the claims that a caption makes of a scene, and those that are true.

    Args:
        words: tokenised caption; words that are not of the grammar claim nothing.
        scene: what is drawn.

    Returns:
        Attribute to the number of true claims and of claims. `number`: as many objects are named
        as there are. `shape`: of an object. `colour`: an object has this shape and colour.
        `size`: it has this size as well. `relation`: two named objects are so placed (false where
        either is not there). `background`: its colour.
    """
    claims: dict[str, list[bool]] = {attribute: [] for attribute in ATTRIBUTES}
    named: list[SceneObject | None] = []  # the object of each name, None where there is none
    relation, adjectives = None, dict[str, str]()
    for i, word in enumerate(words):
        if word in _SIZE_OF:
            adjectives["size"] = _SIZE_OF[word]
        elif word in _COLOURS:
            adjectives["colour"] = word
        elif word in _RELATION_OF:
            relation = _RELATION_OF[word]
        elif word in _BACKGROUNDS and i and words[i - 1] in ("a", "on", "against"):
            claims["background"].append(word == scene.background)
        elif word in _SHAPE_OF:
            like = {"shape": _SHAPE_OF[word]}
            fitting = _fitting(scene, like)
            claims["shape"].append(bool(fitting))
            for attribute in ("colour", "size"):
                if attribute in adjectives:
                    like[attribute] = adjectives[attribute]
                    fitting = _fitting(scene, like)
                    claims[attribute].append(bool(fitting))
            named.append(fitting[0] if fitting else None)
            if relation is not None and len(named) > 1:
                a, b = named[-2:]
                holds = a is not None and b is not None and a is not b and _relation(a, b)
                claims["relation"].append(holds == relation)
            relation, adjectives = None, {}
    claims["number"].append(len(named) == len(scene.objects))
    return {attribute: (sum(true), len(true)) for attribute, true in claims.items()}


def _fitting(scene: Scene, like: Mapping[str, str]) -> list[SceneObject]:
    return [o for o in scene.objects if all(getattr(o, k) == v for k, v in like.items())]


def _write(root: Path, arguments: Mapping[str, int]) -> None:
    images, text = root / "images", root / "text"
    images.mkdir(parents=True)
    text.mkdir()
    lists = {"train": "num_train", "dev": "num_val", "test": "num_test"}
    tokens, scenes = [], []
    for split, option in lists.items():
        names = [f"{split}_{i:05d}.jpg" for i in range(arguments[option])]
        number = arguments["num_captions"] if split == "train" else NUM_REFERENCES
        for name in names:
            rng = random.Random(f"{arguments['seed']} {name}")
            scene = _draw_scene(rng)
            photo = _render(scene, arguments["image_size"])
            photo.save(images / name, quality=95, subsampling=0)
            captions = [_caption(scene, rng) for _ in range(number)]
            tokens += [f"{name}#{i}\t{caption}" for i, caption in enumerate(captions)]
            scenes.append(json.dumps({"image": name, **asdict(scene)}))
        (text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
    (text / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n")
    (root / "scenes.jsonl").write_text("\n".join(scenes) + "\n")


def _draw_scene(rng: random.Random) -> Scene:
    number = rng.choice((1, 2))
    colours = rng.sample(sorted(_COLOURS), number)
    kinds = [
        (rng.choice(sorted(_SHAPES)), colour, rng.choice(sorted(_SIZES))) for colour in colours
    ]
    while True:
        objects = tuple(SceneObject(*kind, *_centre(kind[2], rng)) for kind in kinds)
        if number == 1 or _clearly_apart(*objects):
            return Scene(rng.choice(sorted(_BACKGROUNDS)), objects)


def _centre(size: str, rng: random.Random) -> tuple[float, float]:
    """A place where an object of this size is not cut off."""
    margin = 1.05 * _RADII[size]
    return rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin)


def _clearly_apart(a: SceneObject, b: SceneObject) -> bool:
    """Whether they do not touch, and one is clearly beside or above the other."""
    across, down = abs(a.x - b.x), abs(a.y - b.y)
    apart = math.hypot(across, down) > 1.05 * (a.radius + b.radius)
    return apart and abs(across - down) > 0.3


def _caption(scene: Scene, rng: random.Random) -> str:
    objects = sorted(scene.objects, key=lambda drawn: drawn.x + drawn.y)  # in reading order
    with_size = rng.random() < 0.7
    names = [_name(drawn, with_size, rng) for drawn in objects]
    if len(names) > 1 and rng.random() < 0.7:
        relation = _say(_RELATIONS[_relation(objects[0], objects[1])], rng)
        body = f"{names[0]} {relation} {names[1]}"
    else:
        body = " and ".join(names)
    if rng.random() < 0.5:
        body += _say((" on {}", " against {}", " on a {} background"), rng).format(scene.background)
    opening = rng.choice(("", "", "", "there is "))
    sentence = opening + body
    return sentence[0].upper() + sentence[1:] + " ."


def _name(drawn: SceneObject, with_size: bool, rng: random.Random) -> str:
    words = [_say(_SIZES[drawn.size], rng)] if with_size else []
    words += [drawn.colour, _say(_SHAPES[drawn.shape], rng)]
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _say(synonyms: tuple[str, ...], rng: random.Random) -> str:
    """A synonym; the first is drawn most often."""
    return synonyms[0] if rng.random() < 0.8 else rng.choice(synonyms[1:] or synonyms)


def _relation(a: SceneObject, b: SceneObject) -> str:
    if abs(a.x - b.x) > abs(a.y - b.y):
        return "left" if a.x < b.x else "right"
    return "above" if a.y < b.y else "below"


def _render(scene: Scene, image_size: int) -> Image.Image:
    side = image_size * _SUPERSAMPLING
    image = Image.new("RGB", (side, side), _BACKGROUNDS[scene.background])
    draw = ImageDraw.Draw(image)
    for drawn in scene.objects:
        x, y, radius = (length * side for length in (drawn.x, drawn.y, drawn.radius))
        _DRAW[drawn.shape](draw, x, y, radius, _COLOURS[drawn.colour])
    return image.resize((image_size, image_size), Image.Resampling.LANCZOS)


_Colour = tuple[int, int, int]
_Draw = Callable[[ImageDraw.ImageDraw, float, float, float, _Colour], None]


def _circle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Colour) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _square(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Colour) -> None:
    half = 0.87 * r
    draw.rectangle((x - half, y - half, x + half, y + half), fill=colour)


def _triangle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Colour) -> None:
    draw.polygon(_around(x, y, [1.15 * r] * 3), fill=colour)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Colour) -> None:
    draw.polygon(_around(x, y, [1.15 * r, 0.48 * r] * 5), fill=colour)


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Colour) -> None:
    arm = 0.34 * r
    draw.rectangle((x - r, y - arm, x + r, y + arm), fill=colour)
    draw.rectangle((x - arm, y - r, x + arm, y + r), fill=colour)


def _around(x: float, y: float, radii: list[float]) -> list[tuple[float, float]]:
    """Corners at equal angles, the first at the top."""
    angles = [2 * math.pi * i / len(radii) - math.pi / 2 for i in range(len(radii))]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


_DRAW: dict[str, _Draw] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}
