import { text } from '../lib/bytes.ts';
import { SyscallError } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PAGE = 4096;
const SHARED = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };

guestTest(
  'a cached open beside a passthrough mapping that outlived its file is refused or coherent (C7)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'before' });
    const id = await register(fuse, 'f');
    const passthrough = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
    const map = await client.mmap({ fd: passthrough, ...SHARED });
    await client.close({ fd: passthrough });
    await fuse.waitFor('RELEASE');
    t.is(await fuse.server.closeBacking(id), 'ok');

    try {
      const fd = await openAs(client, fuse, { name: 'f', mode: 'cached' });
      // Fills the cache, and then the file changes underneath.
      t.is(text(await client.pread({ fd, count: PAGE, offset: 0 })), 'before');
      await client.mwrite({ map, offset: 0, data: 'stored' });
      const seen = text(await client.pread({ fd, count: 6, offset: 0 }));
      await client.close({ fd });
      t.is(seen, 'stored', 'the backing file has it already');
    } catch (error) {
      if (!(error instanceof SyscallError) || error.call !== 'open') throw error;
      t.is(error.errno, 'EIO');
    }
    await client.munmap({ map });
  },
);
