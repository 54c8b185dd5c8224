"""Beam search, batched over images, groups and beams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder
from captionlab.gradients import without_gradients
from captionlab.options import Count, NonNegative
from captionlab.search.protocol import Search
from captionlab.search.rules import CaptionRules
from captionlab.text import Vocabulary
from captionlab.types import END_ID, PAD_ID, START_ID, Hypothesis, ImageFeatures


class BeamSearch(Search):
    """Keeps the `beam_size` most probable partial captions of each image.

    A caption of n words is ranked by log p / (n + 1) ** length_penalty, the end token counted. The
    search of an image ends early once none of its partial captions can beat its best finished one;
    this does not change the result.

    Args:
        max_length: longest caption, in words.
        beam_size: K.
        length_penalty: 0 ranks by probability alone and favours short captions, 1 by the mean
            per token.
        min_length: fewest words of a finished caption.
        block_ngrams: no n-gram of so many words comes twice in a caption; None for no limit.
        forbidden_endings: words that no finished caption ends with.
        vocabulary: turns these words into ids.

    Raises:
        ValueError: if the penalty is negative, `min_length` is above `max_length`, or there are
            forbidden endings and no vocabulary.

    Source:
        Wu et al. 2016 (GNMT), sec. 7, with the plain power of the length; Paulus et al. 2018,
        sec. 2.5 (n-gram blocking).
    """

    num_groups = 1
    diversity_strength = 0.0

    def __init__(
        self,
        max_length: Count,
        beam_size: Count,
        length_penalty: NonNegative,
        min_length: Annotated[int, Ge(0)] = 0,
        block_ngrams: Count | None = None,
        forbidden_endings: tuple[str, ...] = (),
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__(max_length)
        if length_penalty < 0:
            raise ValueError(f"length_penalty must be at least 0, found {length_penalty}.")
        problem = BeamSearch.conflict({"min_length": min_length, "max_length": max_length})
        if problem is not None:
            raise ValueError(problem)
        ids: Sequence[int] = ()
        if forbidden_endings:
            if vocabulary is None:
                raise ValueError("forbidden_endings needs the vocabulary that has these words.")
            ids = vocabulary.encode(forbidden_endings)[1:-1]
        self.beam_size = beam_size
        self.length_penalty = length_penalty
        self.rules = CaptionRules(min_length, block_ngrams, ids)

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        """What is wrong with options that are each in range; None if nothing is."""
        shortest, longest = options.get("min_length", 0), options["max_length"]
        if shortest > longest:
            return f"min_length must be at most max_length={longest}, found {shortest}."
        return None

    @property
    def max_captions(self) -> int:
        return self.beam_size

    def __call__(
        self,
        decoder: Decoder,
        features: ImageFeatures,
        image_ids: Sequence[str] | None = None,
    ) -> list[Hypothesis]:
        return [captions[0] for captions in self._find(decoder, features, 1)]

    def n_best(self, decoder: Decoder, features: ImageFeatures) -> list[list[Hypothesis]]:
        """The best finished captions of each of B images, best first, no two alike.

        Up to `beam_size` of them; where none was finished, the likeliest beginning alone.
        """
        size = self.beam_size
        by_image = self._find(decoder, features, size // self.num_groups)
        return [captions[:size] for captions in by_image]

    @without_gradients
    def _find(
        self, decoder: Decoder, features: ImageFeatures, num_kept: int
    ) -> list[list[Hypothesis]]:
        """The `num_kept` best captions of each group of each image."""
        num_images, G = len(features), self.num_groups
        K = self.beam_size // G  # of a group
        device = features.pooled.device
        alive = torch.arange(num_images, device=device)  # images still searched
        state = decoder.select(decoder.start(features), alive.repeat_interleave(G * K))
        token = torch.full((num_images * G * K,), START_ID, device=device)
        total = torch.full((num_images, G, K), -torch.inf, device=device)  # log p of beginnings
        total[..., 0] = 0.0  # all beams of a group begin alike: only one of them counts
        written = token.new_zeros(num_images, G, K, 0)
        best = _Best((num_images, G, num_kept), self.max_length, self.length_penalty, device)
        longest = (self.max_length + 1) ** self.length_penalty
        group = torch.arange(G, device=device).unsqueeze(-1)

        for t in range(self.max_length + 1):
            log_probs, state = decoder.step(token, state)
            self.rules.bar(log_probs, written.flatten(0, 2))
            following = self._follow(total.unsqueeze(-1) + log_probs.view(len(alive), G, K, -1))
            best.offer(alive, following.ended, _take(written, following.ended_parent))

            # log p only falls, and a long caption divides it by most.
            hopeful = best.score[alive, :, -1] < following.total.amax(-1) / longest
            stays = hopeful.any(-1) & (t < self.max_length)
            best.offer_unfinished(alive[~stays], total[~stays], written[~stays])
            keep = stays.nonzero().squeeze(-1)
            if len(keep) == 0:
                break
            images = None if len(keep) == len(alive) else keep
            word, parent = following.word[keep], following.parent[keep]
            rows = (keep.view(-1, 1, 1) * G + group) * K + parent
            state = decoder.select(state, rows.flatten(), images)
            written = torch.cat([_take(written[keep], parent), word.unsqueeze(-1)], -1)
            token, total, alive = word.flatten(), following.total[keep], alive[keep]
        return best.hypotheses()

    def _follow(self, longer: Tensor) -> _Following:
        """Choose what follows, group by group, from log p of every next beginning (A, G, K, V)."""
        _, G, K, vocabulary_size = longer.shape
        width = min(2 * K, K * vocabulary_size)
        used: Tensor | None = None  # how often earlier groups chose a word, (A, V)
        groups = []
        for g in range(G):
            own = longer[:, g]
            ranked = own if used is None else own - self.diversity_strength * used.unsqueeze(1)
            rank, index = ranked.flatten(1).topk(width)  # (A, 2K), K of them may end
            log_prob = own.flatten(1).gather(1, index)
            word, parent = index % vocabulary_size, index // vocabulary_size
            ends = word == END_ID
            ended = log_prob[:, :K].masked_fill(~ends[:, :K], -torch.inf)
            order = rank.masked_fill(ends, -torch.inf).topk(K).indices
            total = log_prob.masked_fill(ends, -torch.inf).gather(1, order)
            chosen = word.gather(1, order)
            groups.append(_Following(ended, parent[:, :K], chosen, parent.gather(1, order), total))
            if g + 1 < G:
                used = torch.zeros_like(own[:, 0]) if used is None else used
                used = used.scatter_add(1, chosen, (total > -torch.inf).to(used.dtype))
        return _Following(*(torch.stack(parts, 1) for parts in zip(*groups, strict=True)))


class DiverseBeamSearch(BeamSearch):
    """Beam search in groups, each of which avoids the words of those before it.

    At each step a group ranks the beginnings by log p less `diversity_strength` times how often
    the groups before it chose the same word at that step (Hamming diversity); the end token is
    free. Captions are ranked by their own log p, as in `BeamSearch`, which one group is.

    Args:
        max_length: longest caption, in words.
        beam_size: K, of all groups together.
        length_penalty: 0 ranks by probability alone and favours short captions, 1 by the mean
            per token.
        num_groups: G, of `beam_size` / G beams each.
        diversity_strength: nats per use of a word.
        min_length: fewest words of a finished caption.
        block_ngrams: no n-gram of so many words comes twice in a caption; None for no limit.
        forbidden_endings: words that no finished caption ends with.
        vocabulary: turns these words into ids.

    Raises:
        ValueError: as `BeamSearch`; and if the beams cannot be shared out evenly, or the strength
            is negative.

    Source:
        Vijayakumar et al. 2018, sec. 3 and algorithm 1.
    """

    def __init__(
        self,
        max_length: Count,
        beam_size: Count,
        length_penalty: NonNegative,
        num_groups: Count,
        diversity_strength: NonNegative,
        min_length: Annotated[int, Ge(0)] = 0,
        block_ngrams: Count | None = None,
        forbidden_endings: tuple[str, ...] = (),
        vocabulary: Vocabulary | None = None,
    ) -> None:
        rules = (min_length, block_ngrams, forbidden_endings, vocabulary)
        super().__init__(max_length, beam_size, length_penalty, *rules)
        if beam_size % num_groups:
            raise ValueError(_undivided(beam_size, num_groups))
        if diversity_strength < 0:
            raise ValueError(f"diversity_strength must be at least 0, found {diversity_strength}.")
        self.num_groups = num_groups
        self.diversity_strength = diversity_strength

    @classmethod
    def conflict(cls, options: Mapping[str, Any]) -> str | None:
        beams, groups = options["beam_size"], options["num_groups"]
        return super().conflict(options) or (_undivided(beams, groups) if beams % groups else None)


def _undivided(beam_size: int, num_groups: int) -> str:
    return f"num_groups must divide beam_size={beam_size}, found {num_groups}."


class _Following(NamedTuple):
    """What comes after the beginnings of A images, each (A, G, K)."""

    ended: Tensor  # log p of captions that end here, minus infinity where none does
    ended_parent: Tensor
    word: Tensor
    parent: Tensor
    total: Tensor


class _Best:
    """The best captions of each group of each image so far, best first.

    Args:
        shape: images, groups, captions to keep.
        max_length: longest caption.
        length_penalty: power of the length.
        device: of the search.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        max_length: int,
        length_penalty: float,
        device: torch.device,
    ) -> None:
        self.score = torch.full(shape, -torch.inf, device=device)
        self.log_prob = self.score.clone()
        self.words = torch.full((*shape, max_length), PAD_ID, device=device)
        self.finished = torch.zeros(shape[0], dtype=torch.bool, device=device)
        self.length_penalty = length_penalty

    def offer(self, images: Tensor, log_prob: Tensor, words: Tensor) -> None:
        """Captions that end here: log p (A, G, K), words (A, G, K, t)."""
        self.finished[images] |= (log_prob > -torch.inf).flatten(1).any(-1)
        self._insert(images, log_prob, words, words.shape[-1] + 1)

    def offer_unfinished(self, images: Tensor, total: Tensor, words: Tensor) -> None:
        """Beginnings that go no further, which count where nothing was finished."""
        at = ~self.finished[images]
        self._insert(images[at], total[at], words[at], max(1, words.shape[-1]))

    def _insert(self, images: Tensor, log_prob: Tensor, words: Tensor, length: int) -> None:
        num_kept, max_length = self.words.shape[2:]
        scores = torch.cat([self.score[images], log_prob / length**self.length_penalty], -1)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        order = order[..., :num_kept]
        log_probs = torch.cat([self.log_prob[images], log_prob], -1)
        padded = functional.pad(words, (0, max_length - words.shape[-1]), value=PAD_ID)
        self.score[images] = scores[..., :num_kept]
        self.log_prob[images] = log_probs.gather(-1, order)
        self.words[images] = _take(torch.cat([self.words[images], padded], 2), order)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Of each image, over its groups, best first; at least one."""
        by_image = []
        for words, log_probs, scores, finished in zip(
            self.words.flatten(1, 2).tolist(),
            self.log_prob.flatten(1).tolist(),
            self.score.flatten(1).tolist(),
            self.finished.tolist(),
            strict=True,
        ):
            captions = [tuple(word for word in caption if word != PAD_ID) for caption in words]
            rows = zip(captions, log_probs, scores, [finished] * len(scores), strict=True)
            ordered = sorted((Hypothesis(*row) for row in rows), key=lambda h: -h.score)
            distinct: dict[tuple[int, ...], Hypothesis] = {}  # groups may agree
            for hypothesis in ordered:
                if hypothesis.score > -torch.inf:
                    distinct.setdefault(hypothesis.tokens, hypothesis)
            by_image.append(list(distinct.values())[: None if finished else 1])
        return by_image


def _take(words: Tensor, beam: Tensor) -> Tensor:
    """The words (A, G, K, t) of beams (A, G, K')."""
    return words.gather(2, beam.unsqueeze(-1).expand(*beam.shape, words.shape[-1]))
