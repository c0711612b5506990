import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** READs that the server refuses: of what did not come nothing is kept, whether the kernel waits for each or not. */

const PAGE = 4096;
const PAGES = 8;
/** Longer than any test, so that the size is not asked for. Seconds. */
const LONG = 100_000;

for (const [how, init] of [
  ['one after the other (no ASYNC_READ)', { dropFlags: ['ASYNC_READ', 'AUTO_INVAL_DATA'] }],
  ['side by side (ASYNC_READ)', { addFlags: ['ASYNC_READ'], dropFlags: ['AUTO_INVAL_DATA'] }],
] as const) {
  guestTest(
    `pages that the server refused are not in the cache, and the size stays, with READs ${how}`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
      await using client = await guest.client();
      const data = pattern(PAGES * PAGE);
      await client.writeFile({ path: fuse.backing('f'), data });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const takeBack = await fuse.fail('READ', 'EIO');
      t.is(await client.errno.pread({ fd, count: PAGES * PAGE, offset: 0 }), 'EIO', 'refused');
      t.is((await client.fstat({ fd })).size, data.length, 'the size is what it was');
      await takeBack();

      const after = await fuse.position();
      const seen = await client.pread({ fd, count: PAGES * PAGE, offset: 0 });
      t.is(firstDifference(seen, data), undefined, 'what is read when the server answers again');
      const asked = await fuse.requests({ opcode: 'READ', after });
      const bytes = asked.reduce((sum, { args }) => sum + Number(args['size']), 0);
      t.true(bytes >= data.length, `all pages are asked for again; ${bytes} bytes were`);
      await client.close({ fd });
    },
  );
}

guestTest(
  'one READ ahead that is refused does not hurt: who needs the page has it asked for by itself',
  async (t, guest) => {
    for (const init of [
      { dropFlags: ['ASYNC_READ', 'AUTO_INVAL_DATA'] },
      { addFlags: ['ASYNC_READ'], dropFlags: ['AUTO_INVAL_DATA'] },
    ] as const) {
      const how = init.dropFlags.length === 2 ? 'without ASYNC_READ' : 'with ASYNC_READ';
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
      await using client = await guest.client();
      const data = pattern(PAGES * PAGE);
      await client.writeFile({ path: fuse.backing('f'), data });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      await fuse.fail('READ', 'EACCES', 1);
      const seen = await client.pread({ fd, count: PAGES * PAGE, offset: 0 });
      t.is(firstDifference(seen, data), undefined, how);
      t.is((await fuse.requests('READ'))[0]?.reply?.error, 'EACCES', `${how}: the first was refused`);
      await client.close({ fd });
    }
  },
);
