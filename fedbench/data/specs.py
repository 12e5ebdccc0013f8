"""The data sets that are built in, and the table of all.

A third party adds one with a ``DatasetSpec`` (see ``layouts``) and a reader function: in a plugin,
or behind the entry-point group ``fedbench.datasets``. This module imports neither torch nor NumPy:
`fedbench datasets` and a plan read it.
"""

from __future__ import annotations

from fedbench.data.layouts import DatasetSpec as DatasetSpec
from fedbench.data.layouts import Layout as Layout
from fedbench.registry import Registry

_READERS = "fedbench.data.readers"
_CSVS = "fedbench.data.csvs"
_DIGIT_NAMES = tuple("0123456789")


def _parquet(folder: str, config: str, column: str = "image", label: str = "label") -> Layout:
    """Return the hub's layout: ``{split}-00000-of-00001.parquet`` with encoded images."""
    return Layout(
        name="parquet",
        words=f"{folder}/{config}/{{train,test}}-*.parquet: the hub's layout "
        f"(columns {column} {{bytes, path}} and {label})",
        reader=f"{_READERS}.hub:read",
        places=(f"{folder}/{config}", folder),
        files=(("train", ("train-*.parquet",)), ("test", ("test-*.parquet",))),
        labels=label,
    )


def _pickles(folder: str, train: tuple[str, ...], test: str, parent: str) -> Layout:
    """Return torchvision's layout of CIFAR: Python pickles of batches."""
    return Layout(
        name="torchvision",
        words=f"{parent}/{folder}/ (or {folder}/) with {', '.join((*train, test))}: "
        "torchvision's files, the archive unpacked",
        reader=f"{_READERS}.cifar:read",
        places=(f"{parent}/{folder}", folder),
        files=(*((name, (name,)) for name in train), (test, (test,))),
    )


def _idx(folder: str, parent: str) -> Layout:
    """Return torchvision's layout of MNIST and its likes: idx files, plain or gzipped."""
    stems = (
        ("train images", "train-images-idx3-ubyte"),
        ("train labels", "train-labels-idx1-ubyte"),
        ("test images", "t10k-images-idx3-ubyte"),
        ("test labels", "t10k-labels-idx1-ubyte"),
    )
    return Layout(
        name="torchvision",
        words=f"{parent}/{folder}/raw/ (or {folder}/raw/, {parent}/raw/, {parent}/) with "
        f"{', '.join(stem for _, stem in stems)}, plain or .gz",
        reader=f"{_READERS}.idx:read",
        places=(f"{parent}/{folder}/raw", f"{folder}/raw", f"{parent}/raw", parent),
        files=tuple((part, (stem, f"{stem}.gz")) for part, stem in stems),
    )


DIGITS = DatasetSpec(
    name="digits",
    title="8x8 handwritten digits of scikit-learn, upsampled to 16x16; needs no file",
    classes=_DIGIT_NAMES,
    channels=1,
    size=16,
    train_size=1437,
    test_size=360,
    mean=(0.3051,),  # fedbench: measured on the 1,437 training images at 16x16
    std=(0.3189,),  # as the mean
    augment="none",  # fedbench: 8 source pixels a side; a shift of two is a quarter of the digit
    version=1,
    accepts=(Layout("built-in", "none: it comes with scikit-learn", f"{_READERS}.builtin:read"),),
    fetch="nothing to do: it comes with scikit-learn",
    source="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI (CC BY 4.0)",
)

MNIST = DatasetSpec(
    name="mnist",
    title="28x28 grey handwritten digits",
    classes=_DIGIT_NAMES,
    channels=1,
    size=28,
    train_size=60_000,
    test_size=10_000,
    mean=(0.1307,),  # DENSE, CollabDM and their kin
    std=(0.3081,),  # DENSE, CollabDM and their kin
    augment="none",  # DENSE: pixels as they are
    version=1,
    accepts=(_idx("MNIST", "mnist"), _parquet("mnist", "mnist")),
    fetch="fedbench data --fetch mnist",
    torchvision="MNIST",
    download_to="mnist",
    source="Y. LeCun, C. Cortes, C. Burges: MNIST (CC BY-SA 3.0)",
)

FASHION_MNIST = DatasetSpec(
    name="fashion_mnist",
    title="28x28 grey pictures of clothes",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    channels=1,
    size=28,
    train_size=60_000,
    test_size=10_000,
    mean=(0.2861,),  # DENSE, CollabDM and their kin
    std=(0.3530,),  # DENSE, CollabDM and their kin
    augment="none",  # DENSE: pixels as they are
    version=1,
    accepts=(
        _idx("FashionMNIST", "fashion_mnist"),
        _parquet("fashion_mnist", "fashion_mnist"),
    ),
    fetch="fedbench data --fetch fashion_mnist",
    torchvision="FashionMNIST",
    download_to="fashion_mnist",
    source="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv 1708.07747 (MIT)",
)

_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR10 = DatasetSpec(
    name="cifar10",
    title="32x32 colour photographs of 10 things",
    classes=tuple(_CIFAR10_NAMES.split()),
    channels=3,
    size=32,
    train_size=50_000,
    test_size=10_000,
    mean=(0.4914, 0.4822, 0.4465),  # DENSE, CollabDM and their kin
    std=(0.2023, 0.1994, 0.2010),  # DENSE, CollabDM and their kin
    augment="flip_crop",  # DENSE, FedLMG: pad 4, crop, horizontal flip
    version=1,
    accepts=(
        _pickles(
            "cifar-10-batches-py",
            tuple(f"data_batch_{number}" for number in range(1, 6)),
            "test_batch",
            "cifar10",
        ),
        _parquet("cifar10", "plain_text", column="img"),
    ),
    fetch="fedbench data --fetch cifar10",
    torchvision="CIFAR10",
    download_to="cifar10",
    source="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009 "
    "(no licence stated)",
)

_CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

CIFAR100 = DatasetSpec(
    name="cifar100",
    title="32x32 colour photographs of 100 things",
    classes=tuple(_CIFAR100_NAMES.split()),
    channels=3,
    size=32,
    train_size=50_000,
    test_size=10_000,
    mean=(0.5071, 0.4866, 0.4409),  # DENSE, CollabDM and their kin
    std=(0.2673, 0.2564, 0.2762),  # DENSE, CollabDM and their kin
    augment="flip_crop",  # as CIFAR-10
    version=1,
    accepts=(
        _pickles("cifar-100-python", ("train",), "test", "cifar100"),
        _parquet("cifar100", "cifar100", column="img", label="fine_label"),
    ),
    fetch="fedbench data --fetch cifar100",
    torchvision="CIFAR100",
    download_to="cifar100",
    source=CIFAR10.source,
)

SVHN = DatasetSpec(
    name="svhn",
    title="32x32 colour house numbers, cropped digits; the `extra` part is not used",
    classes=_DIGIT_NAMES,
    channels=3,
    size=32,
    train_size=73_257,
    test_size=26_032,
    mean=(0.4377, 0.4438, 0.4728),  # DENSE, CollabDM and their kin
    std=(0.1980, 0.2010, 0.1970),  # DENSE, CollabDM and their kin
    augment="crop",  # DSA's authors leave out the flip for digits
    version=1,
    accepts=(
        Layout(
            name="torchvision",
            words="svhn/ (or the data root) with train_32x32.mat and test_32x32.mat",
            reader=f"{_READERS}.svhn:read",
            places=("svhn", "SVHN", ""),
            files=(("train", ("train_32x32.mat",)), ("test", ("test_32x32.mat",))),
        ),
        _parquet("svhn", "cropped_digits"),
    ),
    fetch="fedbench data --fetch svhn",
    torchvision="SVHN",
    download_to="svhn",
    source="Y. Netzer et al.: Reading Digits in Natural Images with Unsupervised Feature "
    "Learning, 2011 (non-commercial use)",
)

NSL_KDD = DatasetSpec(
    name="nsl_kdd",
    title="network flows as 12x12 one-channel images: normal and four kinds of attack",
    classes=("normal", "dos", "probe", "r2l", "u2r"),
    channels=1,
    size=12,
    train_size=125_973,
    test_size=22_544,
    mean=(0.0585,),  # fedbench: measured on the 25,192 training flows of KDDTrain+_20Percent
    std=(0.2237,),  # as the mean
    augment="none",  # fedbench: a pixel is a feature, its place is its meaning
    version=1,
    accepts=(
        Layout(
            name="csv",
            words="nsl_kdd/ with KDDTrain+.txt (or KDDTrain+_20Percent.txt) and KDDTest+.txt, "
            "plain or .gz: csv without header, 41 features, attack name, difficulty",
            reader=f"{_READERS}.network:read",
            look=f"{_CSVS}:look",
            places=("nsl_kdd", "NSL_KDD", "NSL-KDD"),
            files=(
                (
                    "train",
                    (
                        "KDDTrain+.txt",
                        "KDDTrain+.txt.gz",
                        "KDDTrain+_20Percent.txt",
                        "KDDTrain+_20Percent.txt.gz",
                    ),
                ),
                ("test", ("KDDTest+.txt", "KDDTest+.txt.gz")),
            ),
        ),
    ),
    fetch="take KDDTrain+.txt and KDDTest+.txt from https://www.unb.ca/cic/datasets/nsl.html "
    "into {root}/nsl_kdd",
    source="M. Tavallaee, E. Bagheri, W. Lu, A. Ghorbani: A Detailed Analysis of the KDD CUP 99 "
    "Data Set, 2009 (University of New Brunswick)",
)

NIDD_5G = DatasetSpec(
    name="nidd_5g",
    title="5G-NIDD's network flows as 64x64 one-channel images, your own copy of its csv",
    classes=("benign", "http_flood", "slowrate_dos", "udp_flood", "other"),
    channels=1,
    size=64,  # CollabDM; 16, 32 and 48 are as sharp
    train_size=None,
    test_size=None,
    mean=(0.5,),  # fedbench: the flows are not at hand to measure
    std=(0.5,),  # as the mean
    augment="none",  # as NSL-KDD
    version=1,
    accepts=(
        Layout(
            name="csv",
            words="PATH/ with Combined.csv (or one *.csv), plain or .gz: a header, Argus features, "
            "and the column 'Attack Type'",
            reader=f"{_READERS}.network:read_nidd",
            look=f"{_CSVS}:look_at_labels",
            files=(("flows", ("Combined.csv", "Combined.csv.gz", "*.csv", "*.csv.gz")),),
            labels="Attack Type",
        ),
    ),
    fetch="take Combined.csv from https://ieee-dataport.org/documents/5g-nidd-comprehensive-network-"
    "intrusion-detection-dataset-generated-over-5g-wireless and give `path` its folder, absolute "
    "or below {root}",
    takes_path=True,
    source="S. Samarakoon et al.: 5G-NIDD: A Comprehensive Network Intrusion Detection Dataset "
    "Generated over 5G Wireless Network, arXiv 2212.01298",
)

FLOWS = DatasetSpec(
    name="flows",
    title="your own csv of network flows, or any table of numbers and words, as one-channel images",
    classes=(),
    channels=1,
    size=16,  # fedbench: room for 256 features; NSL-KDD has 122, 5G-NIDD about 80
    train_size=None,
    test_size=None,
    mean=(0.5,),  # fedbench: the flows are not known, as with FOLDER
    std=(0.5,),  # as the mean
    augment="none",  # as NSL-KDD
    version=1,
    accepts=(
        Layout(
            name="two files",
            words="PATH/ with train.csv and test.csv, plain or .gz: a header, numbers and words, "
            "and a column for the class called label, class, attack, ...",
            reader=f"{_READERS}.flows:read",
            look=f"{_CSVS}:look_at_flows",
            files=(
                ("train", ("train.csv", "train.csv.gz")),
                ("test", ("test.csv", "test.csv.gz")),
            ),
        ),
        Layout(
            name="one file",
            words="PATH/ with one *.csv or *.csv.gz, or PATH itself such a file: the same; a fifth "
            "is drawn for testing",
            reader=f"{_READERS}.flows:read_one",
            look=f"{_CSVS}:look_at_flows",
            files=(("flows", ("*.csv", "*.csv.gz")),),
        ),
    ),
    fetch="give `path` the file, or the folder that holds it, absolute or below {root}",
    takes_path=True,
)

_IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
)
#: What people call the folders of the two parts, the usual name first.
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "val", "valid", "validation", "testing")
_TEST = ("test", tuple(f"{name}/*/**/*" for name in TEST_FOLDERS))
_TRAIN = ("train", tuple(f"{name}/*/**/*" for name in TRAIN_FOLDERS))

FOLDER = DatasetSpec(
    name="folder",
    title="your own images: train/<class>/*.png|jpg and test/<class>/..., or <class>/... alone",
    classes=(),
    channels=None,
    size=32,  # fedbench: CIFAR's size, which every model family takes
    train_size=None,
    test_size=None,
    mean=(0.5,),  # fedbench: the images are not known; `half` for every data set
    std=(0.5,),  # as the mean
    augment="crop",  # fedbench: a flip would change letters and digits; ask for flip_crop
    version=1,
    accepts=(
        Layout(
            name="folder",
            words="PATH/train/<class>/ and PATH/test/<class>/ (or val, valid, validation) "
            "with images (png, jpg, jpeg, jfif, bmp, webp, gif, tif, tiff, ppm, pgm), subfolders "
            "allowed",
            reader=f"{_READERS}.folder:read",
            files=(_TRAIN, _TEST),
            suffixes=_IMAGE_SUFFIXES,
        ),
        Layout(
            name="train only",
            words="PATH/train/<class>/ without a folder to test with: a fifth is drawn for testing",
            reader=f"{_READERS}.folder:read_undivided",
            files=(("images", _TRAIN[1]),),
            suffixes=_IMAGE_SUFFIXES,
            unless=TEST_FOLDERS,
        ),
        Layout(
            name="classes",
            words="PATH/<class>/, without train/ and test/: likewise",
            reader=f"{_READERS}.folder:read_undivided",
            files=(("images", ("*/**/*",)),),
            suffixes=_IMAGE_SUFFIXES,
            unless=(*TRAIN_FOLDERS, *TEST_FOLDERS),
        ),
    ),
    fetch="give `path` the folder that holds train/ and test/, absolute or below {root}",
    takes_path=True,
)

DATASETS: Registry[DatasetSpec] = Registry(
    "data set",
    "fedbench.datasets",
    {
        spec.name: spec
        for spec in (
            DIGITS,
            MNIST,
            FASHION_MNIST,
            CIFAR10,
            CIFAR100,
            SVHN,
            NSL_KDD,
            NIDD_5G,
            FLOWS,
            FOLDER,
        )
    },
)
