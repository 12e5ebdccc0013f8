"""Settings that several tests share."""

#: A cell's data settings for the image folder of the fixture `pets`.
PETS = {"name": "folder", "path": "pets", "train_size": None, "test_size": None, "image_size": 16}
