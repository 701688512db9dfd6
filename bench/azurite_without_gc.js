// Every ten minutes Azurite looks for content that no blob refers to, page by page through lists that it sorts anew
// each time, and answers nobody meanwhile: with the 50,000 blobs of ten minutes of the soak, for longer than twenty more.
// Loaded before it (node --require), this puts that off beyond the soak's end. What is kept instead fits into memory.
const path = require("node:path");
for (const service of ["blob", "queue"]) {
  require(path.join(path.dirname(process.argv[1]), service, "utils", "constants.js")).DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
}
