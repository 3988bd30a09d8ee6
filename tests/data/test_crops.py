"""Crops: picture and class map stay together, whatever is drawn."""

import pytest
import torch

from segformer_edu.data.crops import LIGHTS, Crops
from segformer_edu.data.seeds import Draw


def striped(batch=4, height=60, width=80):
    """Pictures whose colour tells the class: class = round(colour · 4)."""
    masks = torch.randint(0, 5, (batch, height // 10, width // 10), generator=torch.Generator().manual_seed(0))
    masks = masks.repeat_interleave(10, dim=1).repeat_interleave(10, dim=2)
    return (masks[:, None] / 4).expand(-1, 3, -1, -1).clone(), masks


@pytest.mark.parametrize("options", [{}, {"mix": 1.0}, {"paste": 1.0, "rare": (1, 3)}, {"aim": 1.0, "rare": (2,)}])
def test_colour_and_class_stay_together(options):
    images, masks = striped()
    crops = Crops(size=(32, 48), scale=(1.0, 1.0), light="none", largest_share=1.1, **options)
    for seed in range(20):
        seen, classes = crops(images, masks, torch.Generator().manual_seed(seed), 255)
        assert seen.shape == (4, 3, 32, 48)
        assert classes.shape == (4, 32, 48)
        assert torch.equal((seen[:, 0] * 4).round().long(), classes)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.7])
def test_resized_crops_are_right_off_the_borders_of_classes(scale):
    images, masks = striped()
    crops = Crops(size=(40, 40), scale=(scale, scale), light="none")
    seen, classes = crops(images, masks, torch.Generator().manual_seed(1), 255)
    counted = classes != 255
    assert ((seen[:, 0] * 4).round().long() == classes)[counted].float().mean() > 0.8
    assert counted.all() == (scale > 0.7)


def test_what_lies_outside_is_void_and_the_pictures_mean():
    images, masks = striped(batch=1)
    seen, classes = Crops(size=(60, 80), scale=(0.5, 0.5), light="none")(images, masks, torch.Generator(), 9)
    outside = classes == 9
    assert outside.float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert seen[0, :, outside[0]].std() < 0.05


def test_the_same_generator_gives_the_same_crops():
    images, masks = striped()
    crops = Crops(size=(32, 32), light="strong", rare=(1,), aim=0.5, paste=0.5, mix=0.3)
    first, second, other = (crops(images, masks, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(images, striped()[0])  # what was given is left alone


def test_a_crop_of_one_class_is_drawn_again():
    masks = torch.zeros(1, 64, 64, dtype=torch.long)
    masks[:, :, 48:] = 1
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shares = []
    for largest in (1.1, 0.75):
        crops = Crops(size=(16, 16), scale=(1.0, 1.0), largest_share=largest, light="none")
        drawn = [crops(images, masks, torch.Generator().manual_seed(seed))[1].float().mean() for seed in range(50)]
        shares.append(sum(0.2 < share < 0.8 for share in drawn))
    assert shares[1] > 2 * shares[0]


def test_aimed_crops_hold_a_rare_class():
    masks = torch.zeros(2, 100, 100, dtype=torch.long)
    masks[0, 5, 90], masks[1, 60, 3] = 7, 8
    images = torch.rand(2, 3, 100, 100)
    crops = Crops(size=(20, 20), scale=(1.0, 1.0), aim=1.0, rare=(7, 8), flip=0.5, light="none")
    for seed in range(30):
        _, classes = crops(images, masks, torch.Generator().manual_seed(seed))
        assert (classes[0] == 7).any()
        assert (classes[1] == 8).any()


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_light_keeps_the_shape_and_stays_finite(light, channels):
    image = torch.rand(channels, 12, 15, generator=torch.Generator().manual_seed(0))
    for seed in range(40):
        draw = Draw(torch.Generator().manual_seed(seed))
        changed = LIGHTS[light](image, draw)
        assert changed.shape == image.shape
        assert torch.isfinite(changed).all()


def test_hue_leaves_brightness():
    grey = torch.tensor([0.299, 0.587, 0.114])
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(60):
        draw = Draw(torch.Generator().manual_seed(seed))
        changed = LIGHTS["distortion"](image, draw)
        before, after = (torch.einsum("c,chw->hw", grey, value) for value in (image, changed))
        slope = torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]
        assert slope > 0.99


def test_words_that_are_no_light():
    with pytest.raises(ValueError, match="light is 'dark'"):
        Crops(light="dark")


@pytest.mark.parametrize(
    ("given", "same"),
    [({"size": 64}, {"size": (64, 64)}), ({"size": [64, 48]}, {"size": (64, 48)}), ({"scale": 1.0}, {"scale": (1, 1)}),
     ({"scale": [0.5, 1]}, {"scale": (0.5, 1)}), ({"rare": 3}, {"rare": (3,)}), ({"rare": [1, 2]}, {"rare": (1, 2)})],
)  # fmt: skip
def test_one_number_stands_for_several(given, same):
    assert Crops(**given) == Crops(**same)
    assert hash(Crops(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": None}, "size is None; expected"), ({"size": 0}, "height is 0; expected"),
        ({"size": (64,)}, "size is .*; expected"), ({"size": 1.5}, "size is 1.5; expected"),
        ({"scale": (0, 1)}, "scale is .*; expected"), ({"scale": -1}, "scale is -1; expected"),
        ({"scale": None}, "scale is None; expected"), ({"scale": (1, 2, 3)}, "scale is .*; expected"),
        ({"scale": (1, float("inf"))}, "scale is .*; expected"), ({"scale": "12"}, "scale is '12'; expected"),
        ({"rare": "car"}, "rare.*expected a whole number"), ({"rare": -1}, "rare.*expected a whole number"),
        ({"rare": None}, "rare.*expected a whole number"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_told_at_once(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Crops(**given)


def test_bytes_are_refused():
    with pytest.raises(TypeError, match="float"):
        Crops()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.long), torch.Generator())


@pytest.mark.parametrize("name", ["flip", "aim", "paste", "mix"])
@pytest.mark.parametrize("value", [-0.1, 5, float("nan")])
def test_a_share_is_one(name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        Crops(**{name: value})
