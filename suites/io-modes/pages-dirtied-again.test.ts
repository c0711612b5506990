import { bytes, concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { RequestRecord } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, mountWritebackCache, pageOf, pagesWritten } from '../lib/writeback-cache.ts';

const PAGE = 4096;

guestTest(
  'a page that is made dirty while it is written back is sent once more, after that, as it is then',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const parts = { a: 0, b: PAGE, c: PAGE / 2 } as const;
    await client.writeFile({ path: fuse.backing('f'), data: pattern(3 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({
      fd,
      length: 3 * PAGE,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_SHARED',
    });
    // Direct reads into the mapping dirty its pages twice: when they begin, and when they have their data.
    const reads = await fuse.hold('READ');
    const reading: Record<string, { done: Promise<number>; request: RequestRecord }> = {};
    const sources: number[] = [];
    for (const name of ['a', 'b', 'c'] as const) {
      await client.writeFile({ path: fuse.backing(name), data: bytes(name.repeat(PAGE / 2)) });
      const source = await client.open({ path: fuse.file(name), flags: 'O_RDONLY|O_DIRECT' });
      sources.push(source);
      const into = { fd: source, map, offset: PAGE + parts[name], length: PAGE / 2 };
      // The pages of the mapping itself are read first.
      const done = client.readInto(into);
      done.catch(() => undefined);
      const arrived = async (): Promise<RequestRecord> => {
        for (;;) {
          const request = await reads.arrived();
          if (request.path === `/${name}`) return request;
          await reads.release(request);
        }
      };
      reading[name] = { done, request: await arrived() };
    }
    const answer = async (name: 'a' | 'b' | 'c'): Promise<void> => {
      const read = reading[name];
      if (read === undefined) return;
      await reads.release(read.request);
      t.is(await read.done, PAGE / 2, name);
    };
    const hold = await fuse.hold('WRITE');
    const after = await fuse.position();
    await beginWriteback(client, fd);
    const first = await hold.arrived();
    t.deepEqual(await pagesWritten(fuse, after), [[1, 2]], 'both pages');
    await answer('a');
    await client.pwrite({ fd, data: pageOf(0x70), offset: 0 });
    await beginWriteback(client, fd);
    const before = await hold.arrived();
    t.is(before.args['size'], PAGE, 'a page before them is sent by itself');
    for (const name of ['b', 'c'] as const) {
      await answer(name);
      await beginWriteback(client, fd);
    }
    await client.stat({ path: fuse.path });
    const two = [
      [1, 2],
      [0, 1],
    ];
    t.deepEqual(
      await pagesWritten(fuse, after),
      two,
      'the pages are not sent while they are being written back',
    );
    await hold.stop();
    await hold.release(before);
    await hold.release(first);
    await client.fsync({ fd });
    const sent = (await pagesWritten(fuse, after)).slice(2);
    const pages = sent.flatMap(([from, length]) => Array.from({ length }, (_, nth) => from + nth));
    t.deepEqual(pages.sort(), [1, 2], 'then each once');
    const wanted = concat(pageOf(0x70), pattern(3 * PAGE).subarray(PAGE));
    for (const name of ['a', 'b', 'c'] as const) wanted.set(bytes(name.repeat(PAGE / 2)), PAGE + parts[name]);
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(stored, wanted), undefined, 'what the server has');
    await reads.stop();
    await client.munmap({ map });
    for (const source of sources) await client.close({ fd: source });
    await client.close({ fd });
  },
);
