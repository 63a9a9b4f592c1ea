"""How the pipeline runs elsewhere: images, job templates, work pools."""
