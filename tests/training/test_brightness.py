import numpy as np
import pytest
import torch

from biomassters.chips.bands import BAND_NAMES, S1, channels
from biomassters.chips.scaling import BandScaling
from biomassters.loading.samples import Sample
from biomassters.training.brightness import brightness_changes, change_brightness

RANGE = torch.from_numpy(BandScaling.reference().offset_and_range()[1])
RADAR = channels(S1.bands)
CLOUD = BAND_NAMES.index("CLP")


def changes(*samples: Sample, strength: float = 1.0):
    return brightness_changes(samples, strength, RANGE)


def test_a_sample_changes_alike_in_any_company_and_with_any_months() -> None:
    a, b = Sample(0, (0, 3, 7), seed=5), Sample(1, (3,), seed=6)
    gain, added = changes(b, a)
    alone = changes(a)
    assert torch.equal(gain[1:], alone[0])
    assert torch.equal(added[1:], alone[1])
    later = changes(Sample(0, (3, 7), seed=5))
    assert torch.equal(later[0], alone[0][1:])
    assert not torch.equal(changes(Sample(0, (0, 3, 7), seed=7))[0], alone[0])


def test_spreads_are_those_of_the_description() -> None:
    gain, added = changes(*(Sample(0, (4,), seed=seed) for seed in range(4000)))
    db = (added[..., 0, 0] * RANGE)[:, RADAR].numpy()
    log = np.log(gain[..., 0, 0].numpy())[:, RADAR.stop : CLOUD]
    # sqrt(0.7² + 0.7² + 0.3² + 0.2²) and sqrt(0.06² + 0.1² + 0.05² + 0.06² + 0.03²)
    assert db.std(axis=0) == pytest.approx([1.054] * 4, rel=0.05)
    assert log.std(axis=0) == pytest.approx([0.1435] * 10, rel=0.05)
    assert np.corrcoef(db[:, 0], db[:, 1])[0, 1] == pytest.approx((0.49 + 0.09) / 1.11, abs=0.05)
    # B2 and B3 share all but their own 0.05 and 0.03; B2 and B8 only what all bands share.
    assert np.corrcoef(log[:, 0], log[:, 1])[0, 1] == pytest.approx(0.0172 / 0.0206, abs=0.05)
    assert np.corrcoef(log[:, 0], log[:, 6])[0, 1] == pytest.approx(0.0072 / 0.0206, abs=0.05)


def test_strength_scales_and_nothing_else_changes() -> None:
    sample = Sample(0, tuple(range(12)), seed=3)
    one, half = changes(sample), changes(sample, strength=0.5)
    torch.testing.assert_close(half[0], one[0].sqrt())
    torch.testing.assert_close(half[1], one[1] / 2)
    gain, added = one
    assert (gain[:, RADAR] == 1).all()
    assert (gain[:, CLOUD] == 1).all()
    assert not added[:, RADAR.stop :].any()


def test_a_decibel_is_a_decibel_and_no_data_stays_none() -> None:
    x = torch.rand(1, len(BAND_NAMES), 4, 4) + 0.1
    x[0, RADAR, 0, 0] = 0.0
    x[0, RADAR.stop :, 1, 1] = 0.0
    gain, added = changes(Sample(0, (2,), seed=1))
    out = change_brightness(x.clone(), gain, added)
    assert (out[0, RADAR, 0, 0] == 0).all()
    assert (out[0, RADAR.stop :, 1, 1] == 0).all()
    db = ((out - x) * RANGE[:, None, None])[0, RADAR, 2, 2]
    torch.testing.assert_close(db, added[0, RADAR, 0, 0] * RANGE[RADAR], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out[0, CLOUD], x[0, CLOUD])
    torch.testing.assert_close(
        out[0, RADAR.stop, 2, 2], x[0, RADAR.stop, 2, 2] * gain[0, RADAR.stop, 0, 0]
    )
