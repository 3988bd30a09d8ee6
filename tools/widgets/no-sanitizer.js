// In the place of sanitize-html, which is as large as the rest together. page.js shows descriptions as text, so that
// nothing is left to sanitize; should ipywidgets ask for it all the same, say so.
export default function sanitize() {
  throw new Error("This page's widgets have no HTML sanitizer: descriptions are plain text.");
}
