"""What is done to a map behind its network."""

from __future__ import annotations

import torch

from captionlab.encoders.transforms import Whitening, positions
from tests.support.encoders import CPU, blobs, make_encoder


def test_whitened_channels_are_uncorrelated_with_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator)
    maps = torch.randn(40, 25, 6, generator=generator) @ mix + 3
    whitening = Whitening(6)
    whitening.fit(maps)
    vectors = whitening(maps).flatten(0, 1)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(6), rtol=0, atol=1e-4)
    # A tenth of the mean variance is added to each, so that what is nearly nothing stays small.
    standard = (maps - maps.mean((0, 1))) / maps.std((0, 1))
    before = torch.linalg.eigvalsh(torch.cov(standard.flatten(0, 1).T))
    after = torch.linalg.eigvalsh(torch.cov(vectors.T))
    torch.testing.assert_close(after, before / (before + 0.1 * before.mean()), rtol=0.02, atol=0.01)
    assert after[1:].min() > 0.5 > before[1] / before[-1]


def test_whitening_survives_channels_that_never_change() -> None:
    maps = torch.cat([torch.randn(8, 9, 3), torch.ones(8, 9, 1)], dim=-1)
    whitening = Whitening(4)
    whitening.fit(maps)
    assert whitening(maps).isfinite().all()


def test_positions_run_row_by_row_from_minus_one_to_one() -> None:
    assert positions(2, 3).tolist() == [[-1, -1], [-1, 0], [-1, 1], [1, -1], [1, 0], [1, 1]]


def test_a_map_is_whitened_and_given_coordinates_last() -> None:
    options = {"image_size": 64, "stage": 3, "grid_size": 4}
    plain = make_encoder("resnet18", **options)
    encoder = make_encoder("resnet18", **options, whiten=True, coordinates=True)
    images = blobs(8, 64)
    for one in (plain, encoder):
        one.prepare([images], CPU)
    with torch.inference_mode():
        before, after = plain(images), encoder(images)
    channels = plain.feature_shape.grid_dim
    assert encoder.feature_shape.grid_dim == after.grid.shape[-1] == channels + 2
    torch.testing.assert_close(after.grid[3, :, channels:], positions(4, 4))
    torch.testing.assert_close(after.pooled, before.pooled)
    whitening = Whitening(channels)
    whitening.fit(before.grid)
    torch.testing.assert_close(
        after.grid[..., :channels], whitening(before.grid), rtol=1e-3, atol=1e-3
    )
    assert encoder.fingerprint == f"{plain.fingerprint}/white-64/coordinates"


def test_published_weights_are_calibrated_for_whitening_alone() -> None:
    assert make_encoder("resnet18", weights="imagenet").num_calibration_images == 0
    assert make_encoder("resnet18", weights="imagenet", whiten=True).num_calibration_images == 64
