"""Settings and small pieces that several tests share."""

import signal

#: A cell's data settings for the image folder of the fixture `pets`.
PETS = {"name": "folder", "path": "pets", "train_size": None, "test_size": None, "image_size": 16}


def hearing():
    """Let a child hear Ctrl-C, which it inherits as ignored where tests run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class File:
    """A fit's checkpoint in one file."""

    def __init__(self, path):
        self.path = path

    def found(self):
        return self.path if self.path.exists() else None

    def save(self, write):
        write(self.path)

    def close(self):
        self.path.unlink(missing_ok=True)

    reject = close
