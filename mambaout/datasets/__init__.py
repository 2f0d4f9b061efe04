"""The data of the book: loaders of verified files, which need no network in a clone of the repository."""

from mambaout.datasets.clutter import Clutter, Dense, Level, Scene, clutter, dense, scene
from mambaout.datasets.fashion_mnist import FashionMNIST, fashion_mnist
from mambaout.datasets.photos import list_photos, photo, photo_credit
from mambaout.datasets.stamps import Stamps, stamps
from mambaout.datasets.text import moby_dick
from mambaout.files.data import DataError, find

__all__ = [
    "Clutter",
    "DataError",
    "Dense",
    "FashionMNIST",
    "Level",
    "Scene",
    "Stamps",
    "clutter",
    "dense",
    "fashion_mnist",
    "find",
    "list_photos",
    "moby_dick",
    "photo",
    "photo_credit",
    "scene",
    "stamps",
]
