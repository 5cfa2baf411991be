"""What is known of experiments before TensorFlow is."""

from official.video.settings import defaults


def test_the_file_holds_what_is_registered():
  hint = 'run python -m official.video.settings.defaults'
  assert defaults.PATH.read_text() == defaults.text(), hint
  assert defaults.known() == defaults.registered()
  assert defaults.known()['cvrl_pretrain'].epochs == 200
