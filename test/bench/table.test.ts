import { describe, expect, it } from '@jest/globals';
import { figure, renderTable, times } from '../../bench/report/table.js';

describe('the tables of the benchmark', () => {
  it('put the first column to the left and the others to the right', () => {
    const text = renderTable({
      title: 'Throughput',
      head: ['', 'calls/s', 'to ours'],
      rows: [
        ['ours', '62 000', '1.00 x'],
        ['somebody else', '9 000', ''],
      ],
      notes: ['a note'],
    });
    expect(text.split('\n')).toEqual([
      'Throughput',
      '               calls/s  to ours',
      '-------------  -------  -------',
      'ours            62 000   1.00 x',
      'somebody else    9 000',
      '  a note',
    ]);
  });

  it.each([
    [0.20449, '0.204'],
    [2.6, '2.6'],
    [12.345, '12.3'],
    [999.6, '1 000'],
    [1_234_567, '1 234 567'],
    [0, '0'],
    [undefined, '-'],
    [NaN, '-'],
  ])('show %p as %p', (value, text) => {
    expect(figure(value)).toBe(text);
  });

  it('show a ratio with two decimals', () => {
    expect(times(1.005_1)).toBe('1.01 x');
    expect(times(undefined)).toBe('-');
  });
});
