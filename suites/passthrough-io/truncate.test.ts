import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** `FATTR_SIZE` of SETATTR's `valid`. */
const SIZE = 1 << 3;
/** `FATTR_LOCKOWNER`: it says on whose behalf it is. */
const LOCKOWNER = 1 << 9;

guestTest('ftruncate shrinks the backing file by a SETATTR (A29)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(10_000);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  await client.ftruncate({ fd, length: 5001 });
  const [setattr] = await fuse.requests('SETATTR');
  t.is(Number(setattr?.args['valid']) & SIZE, SIZE);
  t.is(setattr?.args['size'], 5001);
  t.is((await client.fstat({ fd })).size, 5001);
  const back = await client.pread({ fd, offset: 0, count: 20_000 });
  t.is(firstDifference(back, data.subarray(0, 5001)), undefined);
  await client.close({ fd });
  t.is((await client.stat({ path: fuse.backing('f') })).size, 5001);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a file grown by ftruncate reads as zeros from its old end on (A29)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(9000);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  // Shrunk first, so that what has been cut off could come back.
  await client.ftruncate({ fd, length: 3000 });
  await client.ftruncate({ fd, length: 12_000 });
  const expected = new Uint8Array(12_000);
  expected.set(data.subarray(0, 3000));
  t.is(firstDifference(await client.pread({ fd, offset: 0, count: 20_000 }), expected), undefined);
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), expected), undefined);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('truncate by path is seen by a passthrough descriptor at once (A29)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  await client.truncate({ path: fuse.file('f'), length: 4 });
  t.is(text(await client.pread({ fd, offset: 0, count: 20 })), '0123');
  t.is((await client.pread({ fd, offset: 4, count: 20 })).length, 0);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('O_TRUNC travels in OPEN where ATOMIC_O_TRUNC was agreed (A30)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'what was there before' });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_TRUNC' });
  t.is((await client.fstat({ fd })).size, 0);
  t.is((await client.stat({ path: fuse.backing('f') })).size, 0);
  await client.write({ fd, data: 'new' });
  t.is(
    text(await client.readFile({ path: fuse.backing('f') })),
    'new',
    'truncated once, not after the write',
  );
  await client.close({ fd });
  t.is(openFlagNames((await fuse.waitFor('OPEN')).args['flags']), 'O_RDWR|O_TRUNC');
  const sizes = (await fuse.requests('SETATTR')).filter(({ args }) => Number(args['valid']) & SIZE);
  t.deepEqual(sizes, []);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('O_TRUNC is a SETATTR where ATOMIC_O_TRUNC was not agreed (A30)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { dropFlags: ['ATOMIC_O_TRUNC'] } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'what was there before' });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_TRUNC' });
  await client.write({ fd, data: 'new' });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'new');
  await client.close({ fd });
  t.is(openFlagNames((await fuse.waitFor('OPEN')).args['flags']), 'O_RDWR', 'OPEN itself does not truncate');
  const sizes = (await fuse.requests('SETATTR')).filter(({ args }) => Number(args['valid']) & SIZE);
  t.deepEqual(
    sizes.map(({ args }) => ({ size: args['size'], valid: Number(args['valid']) })),
    [{ size: 0, valid: SIZE | LOCKOWNER }],
    'of the path, not of the file that is being opened, and without a time: a truncation sets it',
  );
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('O_TRUNC empties the file under a passthrough descriptor (A30)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const reader = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.is((await client.read({ fd: reader, count: 4 })).length, 4);

  await client.writeFile({ path: fuse.file('f'), data: 'abcdef' });
  t.is(text(await client.read({ fd: reader, count: 20 })), 'ef', 'the position stays, the contents are new');
  await client.close({ fd: reader });
  t.deepEqual(await fuse.dataRequests(), []);
});
