import { firstDifference, pattern } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * Direct reads into a mapping of a file: what is read is stored there by the kernel, which makes the page dirty when
 * the read is done. By then nobody may have the file open or mapped.
 */

const PAGE = 4096;
const LONG = 100_000;

guestTest(
  'a page that a direct read fills when its file is neither mapped nor open for writing is written back, or fsync says that it is not',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    const read = pattern(PAGE, 9);
    await client.writeFile({ path: fuse.backing('source'), data: read });
    for (const where of ['ext4', 'FUSE'] as const) {
      const [name, stored] = [where, fuse.backing(where)];
      const path = where === 'FUSE' ? fuse.file(name) : stored;
      await client.writeFile({ path: stored, data: pattern(PAGE) });
      const source = await client.open({ path: fuse.file('source'), flags: 'O_RDONLY|O_DIRECT' });
      const fd = await client.open({ path, flags: 'O_RDWR' });
      const how = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
      const map = await client.mmap({ fd, ...how });
      const hold = await fuse.hold({ opcode: 'READ', path: '/source' });
      const reading = client.readInto({ fd: source, map, offset: 0, length: PAGE });
      reading.catch(() => undefined);
      const request = await hold.arrived();
      await client.munmap({ map });
      await client.close({ fd });
      if (where === 'FUSE') await fuse.waitFor({ opcode: 'RELEASE', path: `/${name}` });
      await hold.stop();
      await hold.release(request);
      t.is(await reading, PAGE, `${where}: the read`);

      const again = await client.open({ path, flags: 'O_RDONLY' });
      const after = (await guest.kernelLog()).at(-1)?.seq;
      const synced = await client.errno.fsync({ fd: again });
      const said = (await guest.kernelLog(after)).map((record) => record.text);
      t.deepEqual(
        said.filter((line) => line.includes('WARNING')),
        [],
        `${where}: nothing that a user does makes the kernel complain`,
      );
      if (where === 'ext4') t.is(synced, 'ok', where);
      const isStored = firstDifference(await client.readFile({ path: stored }), read) === undefined;
      t.is(isStored, synced === 'ok', `${where}: fsync says ${synced}, and what was read is stored`);
      for (const open of [again, source]) await client.close({ fd: open });
    }
  },
);

guestTest(
  'all the pages that a direct read fills are written back, though they were written back while it was under way',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    const [PAGES, old, read] = [3, pattern(3 * PAGE), pattern(3 * PAGE, 9)];
    await client.writeFile({ path: fuse.backing('source'), data: read });
    await client.writeFile({ path: fuse.backing('f'), data: old });
    const source = await client.open({ path: fuse.file('source'), flags: 'O_RDONLY|O_DIRECT' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const how = { length: PAGES * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    const map = await client.mmap({ fd, ...how });
    const hold = await fuse.hold({ opcode: 'READ', path: '/source' });
    const reading = client.readInto({ fd: source, map, offset: 0, length: PAGES * PAGE });
    reading.catch(() => undefined);
    const request = await hold.arrived();
    t.is(request.args['size'], PAGES * PAGE, 'one request for all of them');
    // The kernel was about to store into them: they are dirty, as they were. Now they are clean.
    await client.fsync({ fd });
    const before = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(before, old), undefined, 'written back before the data came');
    await hold.stop();
    await hold.release(request);
    t.is(await reading, PAGES * PAGE);
    await client.fsync({ fd });
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(stored, read), undefined, 'what the server has of what was read');
    await client.munmap({ map });
    for (const each of [fd, source]) await client.close({ fd: each });
  },
);
