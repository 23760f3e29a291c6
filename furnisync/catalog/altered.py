"""Images that an older tool altered (background removed), beside Etsy's originals.

They have a table of their own, so that they never satisfy a download: the original of the same
image stays in the queue until it is here itself.
"""

from typing import Final

FOLDER: Final = "altered"
"""Folder of the image folder for altered images that come from elsewhere."""

ALTERED: Final = """
CREATE TABLE altered_images (
    listing_id INTEGER NOT NULL,
    image_id INTEGER NOT NULL,         -- of the original that was altered
    origin TEXT NOT NULL DEFAULT 'altered' CHECK (origin = 'altered'),
    file TEXT NOT NULL,                -- relative to the image folder
    bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    altered_at INTEGER NOT NULL,       -- when the older tool wrote the file
    PRIMARY KEY (listing_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER altered_images_purged BEFORE INSERT ON altered_images
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id)
BEGIN SELECT RAISE(IGNORE); END;
"""
"""A migration of the catalog."""
