// Loaded before Azurite (node --require), so that it keeps up with the tens of thousands of blobs of the soak.
const path = require("node:path");
const main = path.dirname(process.argv[1]);

// Every ten minutes Azurite collects content that no blob refers to, page by page through lists that it sorts anew each
// time, and answers no request meanwhile: with the 50,000 blobs of ten minutes of the soak, for more than twenty minutes.
// This puts that off beyond the end of the soak. What is kept instead fits in memory.
for (const service of ["blob", "queue"]) {
  require(path.join(main, service, "utils", "constants.js")).DEFAULT_GC_INTERVAL_MS = 2 ** 31 - 1;
}

// To delete a blob Azurite scans all blobs of the account twice and then sorts every index anew: 230 ms of CPU with 16,000
// blobs. Here it looks up the name first, which is indexed and nearly unique, as it does for every other operation, and
// removes one document from the indices without a sort: 2 ms.
const { Collection, Resultset } = require(require.resolve("lokijs", { paths: [main] }));
const { find } = Resultset.prototype;
Resultset.prototype.find = function (query, firstOnly) {
  return find.call(this, query?.name === undefined ? query : { name: query.name, ...query }, firstOnly);
};
const { removeBatchByPositions } = Collection.prototype;
Collection.prototype.removeBatchByPositions = function (positions) {
  if (positions.length !== 1) return removeBatchByPositions.call(this, positions);
  this.remove(this.data[positions[0]]);
};
