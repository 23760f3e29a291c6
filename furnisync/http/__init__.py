"""The one way onto the network: libcurl, for the API and the image CDN alike."""
