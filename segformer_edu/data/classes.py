"""The classes of known data sets by name and colour: ADE20K's 150, Cityscapes' 19, PASCAL VOC's 21, CamVid's 31."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segformer_edu.validation import check_positive

SPARE_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00",
    "#F0E442", "#999999", "#332288", "#882255", "#44AA99", "#661100",
)  # fmt: skip
"""Colours for classes that have none, told apart by colour-blind readers (Okabe and Ito's, then Tol's)."""

# Class 0 first, each with its colour in hexadecimal digits.
ADE20K_CLASSES = """
wall 787878, building b47878, sky 06e6e6, floor 503232, tree 04c803, ceiling 787850, road 8c8c8c, bed cc05ff,
windowpane e6e6e6, grass 04fa07, cabinet e005ff, sidewalk ebff07, person 96053d, earth 787846, door 08ff33,
table ff0652, mountain 8fff8c, plant ccff04, curtain ff3307, chair cc4603, car 0066c8, water 3de6fa,
painting ff0633, sofa 0b66ff, shelf ff0747, house ff09e0, sea 0907e6, mirror dcdcdc, rug ff095c, field 7009ff,
armchair 08ffd6, seat 07ffe0, fence ffb806, desk 0aff47, rock ff290a, wardrobe 07ffff, lamp e0ff08,
bathtub 6608ff, railing ff3d06, cushion ffc207, base ff7a08, box 00ff14, column ff0829, signboard ff0599,
chest of drawers 0633ff, counter eb0cff, sand a09614, sink 00a3ff, skyscraper 8c8c8c, fireplace fa0a0f,
refrigerator 14ff00, grandstand 1fff00, path ff1f00, stairs ffe000, runway 99ff00, case 0000ff,
pool table ff4700, pillow 00ebff, screen door 00adff, stairway 1f00ff, river 0bc8c8, bridge ff5200,
bookcase 00fff5, blind 003dff, coffee table 00ff70, toilet 00ff85, flower ff0000, book ffa300, hill ff6600,
bench c2ff00, countertop 008fff, stove 33ff00, palm 0052ff, kitchen island 00ff29, computer 00ffad,
swivel chair 0a00ff, boat adff00, bar 00ff99, arcade machine ff5c00, hovel ff00ff, bus ff00f5, towel ff0066,
light ffad00, truck ff0014, tower ffb8b8, chandelier 001fff, awning 00ff3d, streetlight 0047ff, booth ff00cc,
television receiver 00ffc2, airplane 00ff52, dirt track 000aff, apparel 0070ff, pole 3300ff, land 00c2ff,
bannister 007aff, escalator 00ffa3, ottoman ff9900, bottle 00ff0a, buffet ff7000, poster 8fff00, stage 5200ff,
van a3ff00, ship ffeb00, fountain 08b8aa, conveyer belt 8500ff, canopy 00ff5c, washer b800ff, plaything ff001f,
swimming pool 00b8ff, stool 00d6ff, barrel ff0070, basket 5cff00, waterfall 00e0ff, tent 70e0ff, bag 46b8a0,
minibike a300ff, cradle 9900ff, oven 47ff00, ball ff00a3, food ffcc00, step ff008f, tank 00ffeb,
trade name 85ff00, microwave ff00eb, pot f500ff, animal ff007a, bicycle fff500, lake 0abed4, dishwasher d6ff00,
screen 00ccff, blanket 1400ff, sculpture ffff00, hood 0099ff, sconce 0029ff, vase 00ffcc, traffic light 2900ff,
tray 29ff00, ashcan ad00ff, fan 00f5ff, pier 4700ff, crt screen 7a00ff, plate 00ffb8, monitor 005cff,
bulletin board b8ff00, shower 0085ff, radiator ffd600, glass 19c2c2, clock 66ff00, flag 5c00ff
"""
CITYSCAPES_CLASSES = """
road 804080, sidewalk f423e8, building 464646, wall 66669c, fence be9999, pole 999999, traffic light faaa1e,
traffic sign dcdc00, vegetation 6b8e23, terrain 98fb98, sky 4682b4, person dc143c, rider ff0000, car 00008e,
truck 000046, bus 003c64, train 005064, motorcycle 0000e6, bicycle 770b20
"""
VOC_CLASSES = """
background 000000, aeroplane 800000, bicycle 008000, bird 808000, boat 000080, bottle 800080, bus 008080,
car 808080, cat 400000, chair c00000, cow 408000, dining table c08000, dog 400080, horse c00080, motorbike 408080,
person c08080, potted plant 004000, sheep 804000, sofa 00c000, train 80c000, tv monitor 004080
"""
CAMVID_CLASSES = """
Animal 408040, Archway c00080, Bicyclist 0080c0, Bridge 008040, Building 800000, Car 400080, CartLuggagePram 4000c0,
Child c08040, Column_Pole c0c080, Fence 404080, LaneMkgsDriv 8000c0, LaneMkgsNonDriv c00040, Misc_Text 808040,
MotorcycleScooter c000c0, OtherMoving 804040, ParkingBlock 40c080, Pedestrian 404000, Road 804080,
RoadShoulder 8080c0, Sidewalk 0000c0, SignSymbol c08080, Sky 808080, SUVPickupTruck 4080c0, TrafficCone 000040,
TrafficLight 004040, Train c04080, Tree 808000, Truck_Bus c080c0, Tunnel 400040, VegetationMisc c0c000, Wall 40c000
"""


@dataclass(frozen=True)
class ClassList:
    """What the numbers in a class map stand for.

    The colours are those that a data set's own class maps are painted with. They are not safe for colour-blind readers:
    ADE20K's road and skyscraper even share one. ``plots.overlay`` therefore numbers the regions as well.

    Attributes:
        data: the data set.
        names: one a class; class number 0 is the first.
        colours: one a class, such as "#804080".
        void: the colour of pixels that have no class, in the data set's painted class maps; None where there is none.
    """

    data: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    void: str | None = None

    def __len__(self) -> int:
        return len(self.names)


def listed(data: str, text: str, void: str) -> ClassList:
    """Read names and colours off one of the texts above."""
    entries = [entry.rsplit(maxsplit=1) for entry in text.replace("\n", " ").split(",")]
    names, colours = zip(*entries)
    return ClassList(data, tuple(name.strip() for name in names), tuple(f"#{colour}" for colour in colours), void)


ADE20K = listed("ADE20K", ADE20K_CLASSES, "#000000")
"""The 150 classes of the MIT scene parsing benchmark (Zhou et al., 2017; sceneparsing.csail.mit.edu), in its order.

Names and colours as mmsegmentation's mmseg/utils/class_names.py lists them; the names are the first of each line in
the benchmark's objectInfo150. Its files count from 1 and keep 0 for void; the models' numbers count from 0.
"""
CITYSCAPES = listed("Cityscapes", CITYSCAPES_CLASSES, "#000000")
"""The 19 classes that Cityscapes (Cordts et al., 2016) evaluates, in the order of their trainId.

Names and colours as the data set's own cityscapesscripts/helpers/labels.py lists them.
"""
VOC = listed("PASCAL VOC", VOC_CLASSES, "#e0e0c0")
"""The 21 classes of PASCAL VOC (Everingham et al., 2010), with the colours of its palette; its borders are void."""
CAMVID32 = listed("CamVid, 32 classes", CAMVID_CLASSES, "#000000")
"""CamVid's classes as it was published (Brostow et al., 2009), painted: 31 of them, and Void.

Names, colours and order as in its label_colors.txt. ``data.CamVid`` has the 11 that SegNet's authors made of them.
"""
CLASS_LISTS = {"ade20k": ADE20K, "cityscapes": CITYSCAPES, "voc": VOC, "camvid32": CAMVID32}
GUESSED = (ADE20K, CITYSCAPES)
"""Those that published weights of so many classes are taken for."""


def class_list(wanted: str | int | Sequence[str]) -> ClassList:
    """Return the classes of a data set by its name, or of any model by their names or their number.

    For what ``load_pretrained`` returns: ``class_list(model.class_names or model.num_classes)``.

    Args:
        wanted: "ade20k", "cityscapes", "voc" or "camvid32"; or the names of a model's classes, in order, which are
            kept and get these data sets' colours if they are their classes; or how many classes a model has. 150 are
            taken for ADE20K's and 19 for Cityscapes', as in the published weights; any other number of classes is
            called "class 0", "class 1", ….

    Raises:
        ValueError: a name other than these, no name at all, or a number below 1.

    Source: chapter 9.
    """
    if isinstance(wanted, str):
        if wanted.lower() not in CLASS_LISTS:
            raise ValueError(f"There are no classes of {wanted!r}; expected {', '.join(CLASS_LISTS)}, or their number.")
        return CLASS_LISTS[wanted.lower()]
    if isinstance(wanted, Sequence):
        return named_list(tuple(wanted))
    check_positive(classes=wanted)
    for known in GUESSED:
        if len(known) == wanted:
            return known
    return named_list(tuple(f"class {number}" for number in range(wanted)))


def named_list(names: tuple[str, ...]) -> ClassList:
    """Give names the colours of the data set that has these classes, or spare ones."""
    count = len(names)
    check_positive(classes=count)
    for known in CLASS_LISTS.values():
        if list(map(letters, names)) == list(map(letters, known.names)):
            return ClassList(known.data, names, known.colours)
    return ClassList(f"{count} classes", names, spare_colours(count))


def spare_colours(count: int) -> tuple[str, ...]:
    """Return so many colours; beyond twelve they repeat."""
    return (SPARE_COLOURS * -(-count // len(SPARE_COLOURS)))[:count]


def letters(name: str) -> str:
    """Return what stays of a name however it is written: "Traffic light", "traffic_light", "bed "."""
    return re.sub(r"[\W_]", "", name).casefold()
