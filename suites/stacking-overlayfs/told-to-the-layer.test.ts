import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { pageOf, WRITEBACK_CACHE } from '../lib/writeback-cache.ts';

/** What closes and syncs of a file of an overlay say to the layer besides that they are one. */

const PAGE = 4096;

guestTest('a close on an overlay tells the upper server whose it is', async (t, guest) => {
  await using client = await guest.client();
  await using other = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const owner = async (who: Client): Promise<string> => {
    const after = await fuse.position();
    await who.close({ fd: await who.open({ path: overlay.file('old'), flags: 'O_RDWR' }) });
    const [flush, ...more] = await fuse.requests({ opcode: 'FLUSH', after });
    t.deepEqual(more, [], 'one close');
    return String(flush?.args['lock_owner']);
  };
  const first = await owner(client);
  t.not(await owner(other), first, 'of two processes');
  t.is(await owner(client), first, 'of one and the same');
});

/** Pages of a file that are written before it is synced: not one beside the other, so that none goes along. */
const PAGES = [0, 2, 3, 9];

guestTest(
  'fsync and fdatasync on an overlay have all pages written that wait in the layer, before it is synced (E19)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, { init: WRITEBACK_CACHE });
    const { overlay, fuse } = stack;
    for (const call of ['fsync', 'fdatasync'] as const) {
      const fd = await client.open({ path: overlay.file(call), flags: 'O_RDWR|O_CREAT' });
      const after = await fuse.position();
      for (const page of PAGES) await client.pwrite({ fd, data: pageOf(page + 1), offset: page * PAGE });
      await client[call]({ fd });
      const asked = await fuse.requests({ opcode: ['WRITE', 'FSYNC'], after });
      const synced = asked.findIndex(({ opcode }) => opcode === 'FSYNC');
      t.true(synced >= 0, `${call} is told to the server`);
      // However many WRITEs they become.
      const written = asked.slice(0, synced).flatMap(({ args }) => {
        const [first, count] = [Number(args['offset']) / PAGE, Number(args['size']) / PAGE];
        return Array.from({ length: count }, (_none, nth) => first + nth);
      });
      t.deepEqual([...new Set(written)].toSorted(), PAGES, `${call}: the pages that were written before it`);
      await client.close({ fd });
    }
  },
);
