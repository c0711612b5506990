import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { layersOf, over } from '../lib/layers.ts';

/** Calls that say where in a file of an overlay they mean: that is not where its position is, and that stays. */

const PAGE = 4096;
const [PAGES, POSITION, PLACE, LENGTH] = [16, 100, 9000, 3000];

/** By the call: what it gives of the file at `PLACE`. */
const FROM: Readonly<Record<string, (client: Client, fd: number, into: number) => Promise<number>>> = {
  splice: (client, fd, into) => client.splice({ fdIn: fd, offIn: PLACE, fdOut: into, length: LENGTH }),
  sendfile: (client, fd, into) => client.sendfile({ fdIn: fd, offset: PLACE, fdOut: into, count: LENGTH }),
};

guestTest(
  'splice and sendfile of a file of an overlay take what is where they say, and leave its position',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const data = pattern(PAGES * PAGE);
    for (const layer of layers)
      await client.writeFile({ path: `${layer}/${layer === layers[0] ? 'below' : 'above'}`, data });
    await using overlay = await over(guest, client, layers);
    const [out, into] = await client.pipe({});
    for (const name of ['below', 'above']) {
      const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
      await client.lseek({ fd, offset: POSITION, whence: 'SEEK_SET' });
      for (const [call, take] of Object.entries(FROM)) {
        const what = `${call} of a file ${name}`;
        const count = await take(client, fd, into);
        t.true(count > 0, what);
        const found = await client.read({ fd: out, count });
        t.deepEqual(found, data.subarray(PLACE, PLACE + count), `${what}: what is there`);
        const at = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
        t.is(at, POSITION, `${what}: its position`);
      }
      // Without a place it is the position that counts, and moves.
      const count = await client.splice({ fdIn: fd, fdOut: into, length: LENGTH });
      const found = await client.read({ fd: out, count });
      t.deepEqual(
        found,
        data.subarray(POSITION, POSITION + count),
        `splice of a file ${name} at its position`,
      );
      t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), POSITION + count, `${name}: moved`);
      await client.close({ fd });
    }
    for (const fd of [out, into]) await client.close({ fd });
  },
);

guestTest(
  'a splice to a file of an overlay puts data where it says, or at the position, which moves then alone',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' });
    const [out, into] = await client.pipe({});
    await client.lseek({ fd, offset: 2, whence: 'SEEK_SET' });
    const position = () => client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
    await client.write({ fd: into, data: 'there' });
    t.is(await client.splice({ fdIn: out, fdOut: fd, offOut: 10, length: 5 }), 5);
    t.is(await position(), 2, 'with a place');
    await client.write({ fd: into, data: 'here' });
    t.is(await client.splice({ fdIn: out, fdOut: fd, length: 4 }), 4);
    t.is(await position(), 6, 'without');
    const found = await client.readFile({ path: `${layers[1]}/f` });
    t.is(Buffer.from(found).toString(), '\0\0here\0\0\0\0there', 'in the upper layer');
    for (const each of [fd, out, into]) await client.close({ fd: each });
  },
);

guestTest(
  'advice about a part of a file of an overlay is about that part of the upper file (A33)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const upper = `${layers[1]}/f`;
    await client.writeFile({ path: upper, data: pattern(PAGES * PAGE) });
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    const real = await client.open({ path: upper, flags: 'O_RDONLY' });
    const map = await client.mmap({ fd: real, length: PAGES * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    const cached = async (): Promise<number[]> =>
      [...(await client.mincore({ map }))].flatMap((page, nth) => ((page & 1) === 1 ? [nth] : []));
    await client.fsync({ fd: real });
    t.is((await cached()).length, PAGES, 'in the page cache of the upper filesystem');
    const advice = 'POSIX_FADV_DONTNEED';
    await client.posix_fadvise({ fd, offset: 4 * PAGE, length: 8 * PAGE, advice });
    t.deepEqual(await cached(), [0, 1, 2, 3, 12, 13, 14, 15], 'pages 4 to 11 are not needed');
    await client.posix_fadvise({ fd, offset: 14 * PAGE, length: 0, advice });
    t.deepEqual(await cached(), [0, 1, 2, 3, 12, 13], 'nor is all from page 14 on');
    await client.munmap({ map });
    for (const each of [fd, real]) await client.close({ fd: each });
  },
);

guestTest(
  'a copy of more than there is behind its place copies what there is, on an overlay too',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    for (const layer of layers)
      await client.writeFile({ path: `${layer}/f${layers.indexOf(layer)}`, data: '0123456789' });
    await using overlay = await over(guest, client, layers);
    const fdOut = await client.open({ path: overlay.file('to'), flags: 'O_RDWR|O_CREAT' });
    for (const name of ['f0', 'f1']) {
      const fdIn = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
      const copy = (offIn: number, offOut: number) =>
        client.copy_file_range({ fdIn, offIn, fdOut, offOut, length: 100 });
      t.is(await copy(6, 2), 4, name);
      t.is(await copy(10, 0), 0, `${name}: at its end`);
      t.is(
        Buffer.from(await client.readFile({ path: overlay.file('to') })).toString(),
        '\0\0' + '6789',
        name,
      );
      // Without places the positions count, and move.
      await client.lseek({ fd: fdIn, offset: 3, whence: 'SEEK_SET' });
      await client.lseek({ fd: fdOut, offset: 0, whence: 'SEEK_SET' });
      t.is(await client.copy_file_range({ fdIn, fdOut, length: 2 }), 2, `${name}: at the positions`);
      const positions = [fdIn, fdOut].map((fd) => client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }));
      t.deepEqual(await Promise.all(positions), [5, 2], `${name}: the positions`);
      t.is(Buffer.from(await client.readFile({ path: overlay.file('to') })).toString(), '346789', name);
      await client.ftruncate({ fd: fdOut, length: 0 });
      await client.close({ fd: fdIn });
    }
    await client.close({ fd: fdOut });
  },
);

guestTest('a write with RWF_APPEND on an overlay goes to the end, wherever it says', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  for (const layer of layers)
    await client.writeFile({ path: `${layer}/f${layers.indexOf(layer)}`, data: 'old' });
  await using overlay = await over(guest, client, layers);
  for (const name of ['f0', 'f1']) {
    const fd = await client.open({ path: overlay.file(name), flags: 'O_RDWR' });
    const chunks = [new Uint8Array(Buffer.from('new'))];
    await client.pwritev2({ fd, chunks, offset: 0, flags: 'RWF_APPEND' });
    await client.pwritev2({ fd, chunks, offset: 1 });
    t.is(Buffer.from(await client.readFile({ path: `${layers[1]}/${name}` })).toString(), 'onewew', name);
    await client.close({ fd });
  }
});
