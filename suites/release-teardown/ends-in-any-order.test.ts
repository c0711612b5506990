import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What can end: the descriptor, its mapping, the server, the connection, the mount. */
type End = 'close' | 'munmap' | 'kill' | 'abort' | 'detach';

const ORDERS: readonly (readonly End[])[] = [
  ['detach', 'kill', 'close', 'munmap'],
  ['kill', 'detach', 'munmap', 'close'],
  ['abort', 'close', 'detach', 'munmap', 'kill'],
  ['munmap', 'abort', 'detach', 'kill', 'close'],
  ['close', 'kill', 'munmap', 'detach'],
  ['close', 'detach', 'abort', 'munmap', 'kill'],
];

for (const order of ORDERS) {
  guestTest(
    `data is there until the last of its holders goes: ${order.join(', ')} (C6, C11, C12, H2, H5)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse();
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      // Where a mapping has the page cache of FUSE it needs its server: then there is none.
      const map = guest.expected.mapsBackingFile
        ? await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' })
        : null;
      const ends: Readonly<Record<End, () => Promise<unknown>>> = {
        // FLUSH may have nobody to go to any more.
        close: () => client.errno.close({ fd }),
        munmap: async () => (map === null ? null : client.munmap({ map })),
        kill: () => fuse.server.kill(),
        abort: () => fuse.abort(),
        detach: () => fuse.unmount('MNT_DETACH'),
      };
      const gone = new Set<End>();
      for (const end of order) {
        // A connection that has ended with its last file cannot be aborted any more.
        if (end !== 'abort' || (await fuse.waiting()) !== null) await ends[end]();
        gone.add(end);
        const where = `after ${[...gone].join(', ')}`;
        if (!gone.has('close')) {
          const data = `${gone.size} ends.`;
          t.is(await client.pwrite({ fd, data, offset: 0 }), data.length, `${where}: write`);
          t.is(text(await client.pread({ fd, count: 7, offset: 0 })), data, `${where}: read`);
        }
        if (map !== null && !gone.has('munmap')) {
          const expected = text(await client.readFile({ path: fuse.backing('f') })).slice(0, 7);
          t.is(text(await client.mread({ map, offset: 0, length: 7 })), expected, `${where}: mapping`);
        }
      }
      const waiting = await eventually(
        () => fuse.waiting(),
        (count) => count === null,
      );
      t.is(waiting, null, 'the connection is gone');
      t.false(await guest.isBackingBusy(), 'the backing file is gone');
    },
  );
}
