import test from 'ava';
import { parseQuiltSeries } from './quilt.ts';

test('quilt: comments, empty lines and -p options', (t) => {
  t.deepEqual(parseQuiltSeries('# top\n\n0001-a.patch\nsub/b.patch -p0 # why\nc.patch -p2 -R\n#d.patch\n'), [
    { file: '0001-a.patch', strip: 1 },
    { file: 'sub/b.patch', strip: 0 },
    { file: 'c.patch', strip: 2 },
  ]);
});
