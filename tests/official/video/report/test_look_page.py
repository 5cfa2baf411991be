"""What a net looks at: what the words say of heat, its colours, and a run looked through."""

import numpy as np

from official.video.report import look_page


def heated(heat, inside=None):
  view = np.full((*heat.shape, 3), 100, np.uint8)
  return look_page.Heated(view, heat, 'x', (2, 4, 4), inside=inside)


def test_words_say_where_the_heat_is():
  heat = np.zeros((4, 16, 16))
  heat[:2, 4:8, 4:8] = 3
  heat[:2, 0, 0] = 16
  box = np.zeros((16, 16), bool)
  box[4:8, 4:8] = True
  told = look_page.told([heated(heat, box)])
  assert told == (
    'On average over all: 75 % of the heat lies within boxes, which cover 6 % of the frame: '
    'more than its part; 25 % lies within an eighth of the sides from the edges, which is '
    '44 % of the frame: less than its part; the hotter half of the frames holds 100 % (of a '
    'still clip 50 %).'
  )


def test_pictures_without_heat_do_not_count():
  told = look_page.told([heated(np.ones((4, 16, 16))), heated(np.zeros((4, 16, 16)))])
  assert told.startswith(
    'On average over 1 of 2 pictures: 44 % of the heat lies within an'
  )
  assert 'about its part' in told and 'boxes' not in told and 'holds 50 %' in told
  assert 'all heat is 0' in look_page.told([heated(np.zeros((4, 16, 16)))])


def test_colours_go_from_dark_to_light():
  light = look_page.colors(np.linspace(0, 1, 9)).astype(float) @ [0.3, 0.6, 0.1]
  assert np.all(np.diff(light) > 0)
  made = look_page.overlaid(
    np.full((1, 2, 2, 3), 100, np.uint8), np.array([[[0, 1], [2, 4.0]]])
  )
  assert made.shape == (1, 2, 2, 3) and made.dtype == np.uint8
  assert made[0, 1, 1].sum() > made[0, 1, 0].sum() > made[0, 0, 0].sum()
  assert np.array_equal(
    look_page.overlaid(np.full((1, 1, 1, 3), 100, np.uint8), np.zeros((1, 1, 1)))[
      0, 0, 0
    ],
    np.round(0.8 * 100 + 0.2 * look_page.colors(np.zeros(()))),
  )


def test_the_scale_names_its_ends():
  made = look_page.scale()
  assert 'no heat' in made and 'hottest' in made and made.count('<stop') == 5


def test_a_section_shows_each_clip_with_its_heat_over_time():
  rng = np.random.default_rng(0)
  clips = [heated(rng.uniform(size=(6, 24, 32))) for _ in range(3)]
  made = look_page.section([('two views', clips)], 'About.')
  assert made.count('class="clip moving"') == 3 and made.count('Share of the heat') == 3
  assert '2 x 4 x 4 cells' in made and 'two views' in made and 'class="scale"' in made
