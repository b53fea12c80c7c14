package main

import (
	"cmp"
	"fmt"
	"image/color"
	"maps"
	"os"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// line is one thing over time.
type line struct {
	what, whose string
	at, value   []float64 // seconds since the begin, and what it was
}

// trend returns the mean, and what the line of best fit gains, over the last two thirds. The first third is warming up.
func (l *line) trend() (mean, gain float64) {
	at, value := l.at[len(l.at)/3:], l.value[len(l.value)/3:]
	if len(at) < 2 {
		return l.value[len(l.value)-1], 0
	}
	_, slope := stat.LinearRegression(at, value, nil, false)
	return stat.Mean(value, nil), slope * (at[len(at)-1] - at[0])
}

func sorted(lines map[string]*line) []*line {
	return slices.SortedFunc(maps.Values(lines), func(a, b *line) int {
		return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.whose, b.whose))
	})
}

var colours = []color.Color{
	color.RGBA{31, 119, 180, 255}, color.RGBA{255, 127, 14, 255}, color.RGBA{44, 160, 44, 255}, color.RGBA{148, 103, 189, 255},
	color.RGBA{214, 39, 40, 255}, color.RGBA{140, 86, 75, 255},
}

// plotLines draws a picture with a panel for each thing.
func plotLines(path string, lines map[string]*line) error {
	var panels [][]*plot.Plot
	var names []string
	drawnIn := map[string]int{}
	for _, l := range sorted(lines) {
		if !slices.Contains(names, l.what) {
			p := plot.New()
			p.Title.Text, p.X.Label.Text, p.Y.Min = l.what, "seconds", 0
			names, panels = append(names, l.what), append(panels, []*plot.Plot{p})
		}
		panel := panels[len(panels)-1][0]
		points := make(plotter.XYs, len(l.at))
		for i := range l.at {
			points[i].X, points[i].Y = l.at[i], l.value[i]
		}
		drawn, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", l.what, err)
		}
		drawn.Color = colours[drawnIn[l.what]%len(colours)]
		drawnIn[l.what]++
		panel.Add(drawn)
		panel.Legend.Add(l.whose, drawn)
	}
	image := vgimg.New(24*vg.Centimeter, vg.Length(len(panels))*7*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadY: vg.Centimeter}
	canvases := plot.Align(panels, tiles, draw.New(image))
	for i := range panels {
		panels[i][0].Draw(canvases[i][0])
	}
	file, err := os.Create(path) //nolint:gosec // the user's choice
	if err != nil {
		return err
	}
	if _, err := (vgimg.PngCanvas{Canvas: image}).WriteTo(file); err != nil {
		return err
	}
	return file.Close()
}
