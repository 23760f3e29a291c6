"""Downloads images: jobs in, outcomes out; knows neither the API nor the catalog."""
