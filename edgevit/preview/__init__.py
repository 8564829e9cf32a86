"""What the camera sees and the model says, on a web page. Needs the extra ``preview``."""
