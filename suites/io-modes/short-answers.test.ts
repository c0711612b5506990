import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;

guestTest(
  'behind a short answer to a read the page is zeros, whatever was in it before',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      attrValidS: LONG,
      entryValidS: LONG,
      init,
    });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 's'.repeat(100) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    // A part of a page: it is in the cache, but has to be read before anybody sees it.
    const data = new Uint8Array(100).fill(0x6e);
    t.is(await fuse.notify({ store: '/f', offset: 200, data }), 'ok');
    const seen = await client.pread({ fd, count: 300, offset: 0 });
    t.is(text(seen), 's'.repeat(100), 'the server has no more than that');
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    const rest = await client.mread({ map, offset: 100, length: PAGE - 100 });
    t.deepEqual(rest, new Uint8Array(PAGE - 100), 'the rest of the page');
    await client.munmap({ map });
    t.is((await fuse.requests('READ')).length, 1, 'one page, read once');
    await client.close({ fd });
  },
);
