"""Image sync: discover listings, download their images, write `image_metadata.json`."""
