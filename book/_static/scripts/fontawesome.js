// Empty on purpose, and laid over the theme's file of this name: that script (542 KB gzipped) turns every icon into an
// SVG, and breaks the buttons of widgets with it. The icons still come, from the theme's fonts.
