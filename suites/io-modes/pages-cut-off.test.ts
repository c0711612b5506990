import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, beingWritten, mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/**
 * Pages of which two generations wait to be written: they were given to be written back while a truncation was under
 * way, which lets nothing out, and a direct read into a mapping made them dirty once more. Neither must be left over.
 */

const PAGE = 4096;
/** include/uapi/linux/fuse.h */
const FATTR_SIZE = 1 << 3;

for (const end of ['they are cut off', 'the connection is aborted'] as const) {
  guestTest(`of pages that were to be written twice nothing is left when ${end} before`, async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(3 * PAGE).fill(0x6f) });
    await client.writeFile({ path: fuse.backing('source'), data: new Uint8Array(2 * PAGE).fill(0x73) });
    t.is(await beingWritten(guest), '0', 'before');
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const source = await client.open({ path: fuse.file('source'), flags: 'O_RDONLY|O_DIRECT' });
    // All pages are there, so that the next READ is that of the source.
    await client.pread({ fd, count: 3 * PAGE, offset: 0 });
    const map = await client.mmap({
      fd,
      length: 3 * PAGE,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_SHARED',
    });
    // A direct read into the mapping dirties its pages twice: when it begins, and when it has its data.
    const reads = await fuse.hold({ opcode: 'READ', path: '/source' });
    const reading = client.readInto({ fd: source, map, offset: PAGE, length: 2 * PAGE });
    reading.catch(() => undefined);
    const read = await reads.arrived();

    const cuts = await fuse.hold('SETATTR');
    const cutting = client.errno.ftruncate({ fd, length: PAGE / 2 });
    cutting.catch(() => undefined);
    let cut = await cuts.arrived();
    // The kernel may tell the time of a change before.
    while ((Number(cut.args['valid']) & FATTR_SIZE) === 0) {
      await cuts.release(cut);
      cut = await cuts.arrived();
    }
    const after = await fuse.position();
    await beginWriteback(client, fd);
    t.is(await beingWritten(guest), '8', 'a copy of each page waits for the truncation');
    await reads.stop();
    await reads.release(read);
    t.is(await reading, 2 * PAGE);
    await beginWriteback(client, fd);
    t.is(await beingWritten(guest), '16', 'and another, as the pages are now');

    await cuts.stop();
    if (end === 'they are cut off') {
      await cuts.release(cut);
      t.is(await cutting, 'ok');
    } else {
      await fuse.abort();
      t.is(await cutting, 'ECONNABORTED');
    }
    t.is(await beingWritten(guest), '0', 'no copy is left');
    await client.munmap({ map });
    for (const each of [source, fd]) await client.errno.close({ fd: each });
    if (end !== 'they are cut off') return;
    const page = { opcode: 'WRITE', path: '/f', after } as const;
    t.deepEqual(
      (await fuse.requests(page)).map(({ args }) => args['offset']).filter((offset) => offset !== 0),
      [],
      'what was cut off is not written',
    );
    const released = await eventually(
      () => fuse.opcodes({ opcode: 'RELEASE', path: '/f' }),
      ({ length }) => length > 0,
    );
    t.deepEqual(released, ['RELEASE'], 'nothing keeps the file');
    const whole = new Uint8Array(await client.readFile({ path: fuse.backing('f') }));
    t.deepEqual(whole, pageOf(0x6f).subarray(0, PAGE / 2));
  });
}
