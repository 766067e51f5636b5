"""Prophet: a video world model that is conditioned on actions, and the judge of success on its video."""
